//! From datagrams to messages.

use std::net::{IpAddr, SocketAddr};

use super::{Body, Contact, ErrorCode, Family, Message, Query, Response, Undecodable, Want};
use crate::limits::{
    DHT_DATAGRAM_MAX_BYTES, DHT_NODES_PER_REPLY_MAX, DHT_PEERS_PER_REPLY_MAX, DHT_TOKEN_MAX_BYTES,
    DHT_TRANSACTION_MAX_BYTES,
};
use crate::protocol::bencode::Value;
use crate::protocol::node_id::NodeId;
use crate::units::InfoHash;

impl Message {
    /// Reads a datagram. What follows the message is passed over.
    pub fn decode(datagram: &[u8]) -> Result<Self, Undecodable> {
        Self::read(datagram).ok_or(Undecodable::Nonsense)?
    }

    /// `None` for what can't be answered.
    fn read(datagram: &[u8]) -> Option<Result<Self, Undecodable>> {
        if datagram.len() > DHT_DATAGRAM_MAX_BYTES {
            return None;
        }
        let message = Value::parse(datagram).ok()?;
        let transaction = message.get("t")?.bytes()?;
        if transaction.len() > DHT_TRANSACTION_MAX_BYTES {
            return None;
        }
        let body = match message.get("y")?.bytes()? {
            b"q" => match read_query(message) {
                Ok((id, query)) => Body::Query(id, query),
                Err(code) => {
                    let transaction = transaction.to_vec();
                    return Some(Err(Undecodable::Query { transaction, code }));
                }
            },
            b"r" => Body::Response(read_response(message.get("r")?)?),
            b"e" => Body::Error(read_error(message)),
            _ => return None,
        };
        Some(Ok(Self {
            transaction: transaction.to_vec(),
            body,
            asker: message.get("ip").and_then(Value::bytes).and_then(read_address),
            read_only: message.get("ro").and_then(Value::integer) == Some(1),
        }))
    }
}

fn read_query(message: Value<'_>) -> Result<(NodeId, Query), ErrorCode> {
    const BROKEN: ErrorCode = ErrorCode::PROTOCOL;
    let method = message.get("q").and_then(Value::bytes).ok_or(BROKEN)?;
    let arguments = message.get("a").ok_or(BROKEN)?;
    let id = read_id(arguments, "id").ok_or(BROKEN)?;
    let info_hash = || read_id(arguments, "info_hash").map(|id| InfoHash(id.0)).ok_or(BROKEN);
    let query = match method {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode {
            target: read_id(arguments, "target").ok_or(BROKEN)?,
            want: read_want(arguments),
        },
        b"get_peers" => Query::GetPeers { info_hash: info_hash()?, want: read_want(arguments) },
        b"announce_peer" => {
            let number = |key: &str| arguments.get(key).and_then(Value::integer);
            let implied_port = number("implied_port").is_some_and(|flag| flag != 0);
            let port = number("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            if port == 0 && !implied_port {
                return Err(BROKEN);
            }
            let token = read_token(arguments).ok_or(BROKEN)?;
            Query::AnnouncePeer { info_hash: info_hash()?, port, implied_port, token }
        }
        _ => return Err(ErrorCode::METHOD_UNKNOWN),
    };
    Ok((id, query))
}

fn read_response(response: Value<'_>) -> Option<Response> {
    let compact = |key: &str| response.get(key).and_then(Value::bytes).unwrap_or_default();
    let contacts = |key, family| read_contacts(compact(key), family).take(DHT_NODES_PER_REPLY_MAX);
    let values = response.get("values").and_then(Value::list).into_iter().flatten();
    let values =
        values.take(DHT_PEERS_PER_REPLY_MAX).filter_map(|peer| read_address(peer.bytes()?));
    Some(Response {
        id: read_id(response, "id")?,
        nodes: contacts("nodes", Family::V4).chain(contacts("nodes6", Family::V6)).collect(),
        values: values.collect(),
        token: read_token(response),
    })
}

/// Some send a dictionary, or nothing, in place of a list with a number and a text.
fn read_error(message: Value<'_>) -> ErrorCode {
    let code = message.get("e").and_then(Value::list).and_then(|mut list| list.next());
    code.and_then(Value::integer).map_or(ErrorCode::GENERIC, ErrorCode)
}

fn read_id(dict: Value<'_>, key: &str) -> Option<NodeId> {
    dict.get(key)?.bytes()?.try_into().ok().map(NodeId)
}

fn read_token(dict: Value<'_>) -> Option<Vec<u8>> {
    let token = dict.get("token")?.bytes()?;
    (token.len() <= DHT_TOKEN_MAX_BYTES).then(|| token.to_vec())
}

fn read_want(arguments: Value<'_>) -> Want {
    let want = arguments.get("want").and_then(Value::list);
    let includes =
        |kind: &[u8]| want.clone().into_iter().flatten().any(|wanted| wanted.bytes() == Some(kind));
    Want { v4: includes(b"n4"), v6: includes(b"n6") }
}

/// "Compact IP-address/port info": 6 bytes, or 18 for IPv6.
fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// "Compact node info": an id and an address each, 26 bytes, or 38 for IPv6. An incomplete one at
/// the end is left out.
pub fn read_contacts(bytes: &[u8], family: Family) -> impl Iterator<Item = Contact> {
    let length = match family {
        Family::V4 => 26,
        Family::V6 => 38,
    };
    bytes.chunks_exact(length).filter_map(|contact| {
        let (id, address) = contact.split_first_chunk()?;
        Some(Contact { id: NodeId(*id), address: read_address(address)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(datagram: impl AsRef<[u8]>) -> Result<Message, Undecodable> {
        Message::decode(datagram.as_ref())
    }

    fn broken(transaction: &str, code: ErrorCode) -> Result<Message, Undecodable> {
        Err(Undecodable::Query { transaction: transaction.into(), code })
    }

    fn id(text: &str) -> NodeId {
        NodeId(text.as_bytes().try_into().unwrap())
    }

    #[test]
    fn the_queries_of_bep_5() {
        let info_hash = InfoHash(*b"mnopqrstuvwxyz123456");
        let want = Want::default();
        let cases = [
            ("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Query::Ping),
            (
                "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e\
                 1:q9:find_node1:t2:aa1:y1:qe",
                Query::FindNode { target: info_hash.into(), want },
            ),
            (
                "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e\
                 1:q9:get_peers1:t2:aa1:y1:qe",
                Query::GetPeers { info_hash, want },
            ),
            (
                "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:\
                 mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
                Query::AnnouncePeer {
                    info_hash,
                    port: 6881,
                    implied_port: true,
                    token: b"aoeusnth".to_vec(),
                },
            ),
        ];
        for (datagram, query) in cases {
            let message = decode(datagram).unwrap();
            assert_eq!(message.body, Body::Query(id("abcdefghij0123456789"), query));
            assert_eq!((message.transaction.as_slice(), message.asker), (b"aa".as_slice(), None));
            assert!(!message.read_only);
        }
    }

    #[test]
    fn the_answers_of_bep_5() {
        let pong = "d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re";
        let expected = Body::Response(Response::new(id("mnopqrstuvwxyz123456")));
        assert_eq!(decode(pong).unwrap().body, expected);

        let peers = "d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth\
                     6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
        let expected = Response {
            id: id("abcdefghij0123456789"),
            nodes: Vec::new(),
            values: ["97.120.106.101:11893", "105.100.104.116:28269"]
                .map(|peer| peer.parse().unwrap())
                .into(),
            token: Some(b"aoeusnth".to_vec()),
        };
        assert_eq!(decode(peers).unwrap().body, Body::Response(expected));

        let error = "d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
        assert_eq!(decode(error).unwrap().body, Body::Error(ErrorCode::GENERIC));
    }

    #[test]
    fn nodes_and_peers_of_both_families() {
        let mut datagram = b"d2:ip6:\x7f\0\0\x01\x1a\xe11:rd2:id20:mnopqrstuvwxyz123456".to_vec();
        datagram.extend(b"5:nodes30:abcdefghij0123456789\xc0\0\x02\x01\x1a\xe1half");
        datagram.extend(b"6:nodes638:abcdefghij0123456789\x20\x01\x0d\xb8");
        datagram.extend([0; 12]);
        datagram.extend(b"\x1a\xe16:valuesl18:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01");
        datagram.extend(b"5:short7:toolongi1e6:\xc0\0\x02\x02\0\0ee1:t0:1:y1:re");
        let message = decode(&datagram).unwrap();
        assert_eq!(message.asker, Some("127.0.0.1:6881".parse().unwrap()));
        let Body::Response(response) = message.body else { panic!("{message:?}") };
        let nodes: Vec<String> =
            response.nodes.iter().map(|node| node.address.to_string()).collect();
        assert_eq!(nodes, ["192.0.2.1:6881", "[2001:db8::]:6881"]);
        let values: Vec<String> = response.values.iter().map(ToString::to_string).collect();
        assert_eq!(values, ["[2001:db8::1]:1", "192.0.2.2:0"]);
    }

    #[test]
    fn what_else_a_query_may_have() {
        let query = |want: &str, ro: &str| {
            decode(format!(
                "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456{want}e\
                 1:q9:find_node{ro}1:t2:aa1:y1:qe trailing"
            ))
            .unwrap()
        };
        let cases = [
            ("", false, false),
            ("4:wantl2:n4e", true, false),
            ("4:wantl2:n6e", false, true),
            ("4:wantl2:n62:n8i4e2:n4e", true, true),
            ("4:wantle", false, false),
            ("4:want2:n4", false, false),
        ];
        for (text, v4, v6) in cases {
            let message = query(text, "");
            let Body::Query(_, Query::FindNode { want, .. }) = message.body else {
                panic!("{message:?}")
            };
            assert_eq!(want, Want { v4, v6 }, "{text}");
            let usual = !v4 && !v6;
            assert_eq!(want.includes(Family::V4, Family::V4), v4 || usual);
            assert_eq!(want.includes(Family::V4, Family::V6), v4);
            assert_eq!(want.includes(Family::V6, Family::V6), v6 || usual);
        }
        for (text, expected) in [("2:roi1e", true), ("2:roi0e", false), ("2:ro1:1", false)] {
            assert_eq!(query("", text).read_only, expected, "{text}");
        }
    }

    #[test]
    fn a_broken_query_is_told_so_if_it_can_be() {
        const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL;
        let announce = |arguments: &str| {
            format!(
                "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456{arguments}e\
                 1:q13:announce_peer1:t1:x1:y1:qe"
            )
        };
        let cases = [
            ("d1:t1:x1:y1:qe".to_owned(), PROTOCOL),
            ("d1:q4:ping1:t1:x1:y1:qe".into(), PROTOCOL),
            ("d1:ade1:q4:ping1:t1:x1:y1:qe".into(), PROTOCOL),
            ("d1:ale1:q4:ping1:t1:x1:y1:qe".into(), PROTOCOL),
            ("d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t1:x1:y1:qe".into(), PROTOCOL),
            ("d1:ad2:id20:abcdefghij0123456789e1:qi4e1:t1:x1:y1:qe".into(), PROTOCOL),
            ("d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t1:x1:y1:qe".into(), PROTOCOL),
            ("d1:ad2:id20:abcdefghij0123456789e1:q9:get_peers1:t1:x1:y1:qe".into(), PROTOCOL),
            (
                "d1:ad2:id20:abcdefghij0123456789e1:q3:put1:t1:x1:y1:qe".into(),
                ErrorCode::METHOD_UNKNOWN,
            ),
            (announce("4:porti1e"), PROTOCOL),
            (announce("4:porti0e5:token1:a"), PROTOCOL),
            (announce("4:porti-1e5:token1:a"), PROTOCOL),
            (announce("4:porti65536e5:token1:a"), PROTOCOL),
            (announce("4:port4:68815:token1:a"), PROTOCOL),
            (announce("12:implied_porti0e5:token1:a"), PROTOCOL),
            (announce(&format!("4:porti1e5:token65:{}", "a".repeat(65))), PROTOCOL),
        ];
        for (datagram, code) in cases {
            assert_eq!(decode(&datagram), broken("x", code), "{datagram}");
        }
        for fine in
            ["4:porti1e5:token1:a", "12:implied_porti1e5:token1:a", "4:porti65535e5:token0:"]
        {
            assert!(decode(announce(fine)).is_ok(), "{fine}");
        }
    }

    #[test]
    fn everything_else_is_nonsense() {
        let long_transaction =
            format!("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t33:{:33}1:y1:qe", 0);
        let long = format!("d1:rd2:id20:abcdefghij0123456789e1:t1:x1:y1:r1:z2000:{:2000}e", 0);
        let cases = [
            "",
            "d",
            "e",
            "i1e",
            "le",
            "de",
            "d1:y1:qe",
            "d1:ti1e1:y1:qe",
            "d1:t1:xe",
            "d1:t1:x1:y1:xe",
            "d1:t1:x1:yi1ee",
            "d1:t1:x1:y1:re",
            "d1:r2:id1:t1:x1:y1:re",
            "d1:rde1:t1:x1:y1:re",
            "d1:rd2:id21:abcdefghij0123456789ae1:t1:x1:y1:re",
            "d1:t1:x1:y1:q",
            "HTTP/1.1 400 Bad Request",
            &long_transaction,
            &long,
            &"l".repeat(1500),
        ];
        for datagram in cases {
            assert_eq!(decode(datagram), Err(Undecodable::Nonsense), "{datagram}");
        }
    }

    #[test]
    fn errors_may_be_odd() {
        let cases = [
            ("1:eli204e14:Method Unknowne", ErrorCode::METHOD_UNKNOWN),
            ("1:eli-7ee", ErrorCode(-7)),
            ("1:ele", ErrorCode::GENERIC),
            ("1:ede", ErrorCode::GENERIC),
            ("1:e5:words", ErrorCode::GENERIC),
            ("", ErrorCode::GENERIC),
        ];
        for (field, code) in cases {
            let message = decode(format!("d{field}1:t1:x1:y1:ee")).unwrap();
            assert_eq!(message.body, Body::Error(code), "{field}");
        }
    }

    #[test]
    fn huge_answers_are_cut() {
        let nodes = "n".repeat(26 * 20);
        let peers = "6:aaaabb".repeat(150);
        let datagram = format!(
            "d1:rd2:id20:abcdefghij01234567895:nodes520:{nodes}6:valuesl{peers}ee1:t1:x1:y1:re"
        );
        let Ok(Message { body: Body::Response(response), .. }) = decode(datagram) else { panic!() };
        assert_eq!(response.nodes.len(), DHT_NODES_PER_REPLY_MAX);
        assert_eq!(response.values.len(), DHT_PEERS_PER_REPLY_MAX);
    }
}
