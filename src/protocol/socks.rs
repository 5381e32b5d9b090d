//! Speaks SOCKS5 (RFC 1928), as far as it takes to be connected to a peer, with a name and a password
//! (RFC 1929) where they are asked for.

use std::net::{IpAddr, SocketAddr};

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Bytes of a name or a password at most.
pub const LOGIN_PART_MAX_BYTES: usize = 255;
/// Bytes of the answer to a greeting, and of the answer to a login.
pub const CHOICE_LENGTH: usize = 2;
/// Bytes of the answer to a request as far as they are always there.
pub const REPLY_LENGTH: usize = 5;

/// What the server wants to be told before anything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// Nothing.
    Nothing,
    /// A name and a password.
    Login,
}

/// The first thing that is said: whether we could log in.
pub fn greeting(has_login: bool) -> Vec<u8> {
    match has_login {
        false => vec![VERSION, 1, NO_LOGIN],
        // Whoever has a name wants it to be known.
        true => vec![VERSION, 2, LOGIN, NO_LOGIN],
    }
}

/// What the server answers to that.
///
/// # Errors
/// It is no SOCKS5 server, or lets nobody in who is like us.
pub fn choice(answer: [u8; CHOICE_LENGTH]) -> Result<Choice, &'static str> {
    match answer {
        [VERSION, NO_LOGIN] => Ok(Choice::Nothing),
        [VERSION, LOGIN] => Ok(Choice::Login),
        [VERSION, _] => Err("the proxy wants a login, or a kind of login that we don't have"),
        _ => Err("the proxy does not speak SOCKS5"),
    }
}

/// The login. What is too long is cut.
pub fn login(name: &str, password: &str) -> Vec<u8> {
    let mut bytes = vec![LOGIN_VERSION];
    for part in [name, password] {
        let part = part.as_bytes();
        let part = part.get(..LOGIN_PART_MAX_BYTES).unwrap_or(part);
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend(part);
    }
    bytes
}

/// What the server answers to that.
///
/// # Errors
/// The login was wrong.
pub fn is_let_in(answer: [u8; CHOICE_LENGTH]) -> Result<(), &'static str> {
    if answer[1] == 0 { Ok(()) } else { Err("the proxy does not take the name or the password") }
}

/// The request to be connected.
pub fn connect(to: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, CONNECT, 0];
    match to.ip() {
        IpAddr::V4(ip) => {
            bytes.push(IPV4);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(IPV6);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(to.port().to_be_bytes());
    bytes
}

/// What the server answers to that: how many bytes more there are of the answer.
///
/// # Errors
/// It could not connect, and why.
pub fn reply(answer: [u8; REPLY_LENGTH]) -> Result<usize, &'static str> {
    let [version, result, _, kind, first] = answer;
    if version != VERSION {
        return Err("the proxy does not speak SOCKS5");
    }
    match result {
        0 => {}
        2 => return Err("the proxy may not connect there"),
        3 => return Err("the proxy finds no network there"),
        4 => return Err("the proxy finds no such machine"),
        5 => return Err("refused, the proxy says"),
        6 => return Err("too far away, the proxy says"),
        8 => return Err("the proxy knows no such addresses"),
        _ => return Err("the proxy failed"),
    }
    // The first byte of the address has been read, and a port follows it.
    match kind {
        IPV4 => Ok(3 + 2),
        IPV6 => Ok(15 + 2),
        NAME => Ok(usize::from(first) + 2),
        _ => Err("the proxy's answer can't be understood"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_as_the_papers_have_it() {
        assert_eq!(greeting(false), [5, 1, 0]);
        assert_eq!(greeting(true), [5, 2, 2, 0]);
        assert_eq!(login("me", "secret"), b"\x01\x02me\x06secret");
        let long = "x".repeat(300);
        assert_eq!(login(&long, "").len(), 1 + 1 + 255 + 1);
        assert_eq!(connect(([192, 0, 2, 1], 258).into()), [5, 1, 0, 1, 192, 0, 2, 1, 1, 2]);
        let v6 = connect("[2001:db8::1]:1".parse().unwrap());
        assert_eq!((v6.len(), &v6[..6]), (22, &[5, 1, 0, 4, 0x20, 1][..]));
    }

    #[test]
    fn answers_are_understood_or_refused() {
        assert_eq!(choice([5, 0]), Ok(Choice::Nothing));
        assert_eq!(choice([5, 2]), Ok(Choice::Login));
        assert!(choice([5, 255]).unwrap_err().contains("login"));
        assert!(choice(*b"HT").unwrap_err().contains("SOCKS5"));
        assert!(is_let_in([1, 0]).is_ok() && is_let_in([1, 1]).is_err());
        let cases = [
            ([5, 0, 0, 1, 127], Ok(5)),
            ([5, 0, 0, 4, 0x20], Ok(17)),
            ([5, 0, 0, 3, 9], Ok(11)),
            ([5, 0, 0, 3, 0], Ok(2)),
            ([5, 5, 0, 1, 0], Err("refused, the proxy says")),
            ([5, 99, 0, 1, 0], Err("the proxy failed")),
            ([4, 0, 0, 1, 0], Err("the proxy does not speak SOCKS5")),
        ];
        for (answer, expected) in cases {
            assert_eq!(reply(answer), expected, "{answer:?}");
        }
        assert!(reply([5, 0, 0, 9, 0]).is_err());
    }
}
