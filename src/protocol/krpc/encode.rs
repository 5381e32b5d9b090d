//! From messages to datagrams.

use std::net::{IpAddr, SocketAddr};

use super::{Body, Contact, Family, Message, Query, Response, Want};
use crate::protocol::bencode::Item;
use crate::protocol::node_id::NodeId;

/// What we call ourselves in the field `v`: as in the peer id, and a version of two bytes.
const CLIENT: &[u8; 4] = b"RU\x00\x01";

impl Message {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut entries = vec![("t", Item::bytes(&self.transaction)), ("v", Item::bytes(CLIENT))];
        entries.extend(self.asker.map(|asker| ("ip", Item::Bytes(write_address(asker)))));
        if self.read_only {
            entries.push(("ro", Item::Integer(1)));
        }
        match &self.body {
            Body::Query(id, query) => {
                let (method, arguments) = write_query(*id, query);
                entries.extend([("y", "q".into()), ("q", method.into()), ("a", arguments)]);
            }
            Body::Response(response) => {
                entries.extend([("y", "r".into()), ("r", write_response(response))]);
            }
            Body::Error(code) => {
                let error = Item::List(vec![Item::Integer(code.0), code.text().into()]);
                entries.extend([("y", "e".into()), ("e", error)]);
            }
        }
        Item::dict(entries).encode()
    }
}

fn write_query(id: NodeId, query: &Query) -> (&'static str, Item) {
    let mut arguments = vec![("id", Item::bytes(id.0))];
    let want_nodes = |want: &Want| {
        let kinds = [(want.v4, "n4"), (want.v6, "n6")];
        let kinds: Vec<&str> = kinds.iter().filter(|(is, _)| *is).map(|(_, kind)| *kind).collect();
        (!kinds.is_empty()).then(|| ("want", Item::list(kinds)))
    };
    let method = match query {
        Query::Ping => "ping",
        Query::FindNode { target, want } => {
            arguments.push(("target", Item::bytes(target.0)));
            arguments.extend(want_nodes(want));
            "find_node"
        }
        Query::GetPeers { info_hash, want } => {
            arguments.push(("info_hash", Item::bytes(info_hash.0)));
            arguments.extend(want_nodes(want));
            "get_peers"
        }
        Query::AnnouncePeer { info_hash, port, implied_port, token } => {
            arguments.extend([
                ("implied_port", Item::Integer(i64::from(*implied_port))),
                ("info_hash", Item::bytes(info_hash.0)),
                ("port", Item::Integer(i64::from(*port))),
                ("token", Item::bytes(token)),
            ]);
            "announce_peer"
        }
    };
    (method, Item::dict(arguments))
}

fn write_response(response: &Response) -> Item {
    let mut values = vec![("id", Item::bytes(response.id.0))];
    for (key, family) in [("nodes", Family::V4), ("nodes6", Family::V6)] {
        let nodes = write_contacts(&response.nodes, family);
        if !nodes.is_empty() {
            values.push((key, Item::Bytes(nodes)));
        }
    }
    values.extend(response.token.as_ref().map(|token| ("token", Item::bytes(token))));
    if !response.values.is_empty() {
        values.push(("values", Item::list(response.values.iter().copied().map(write_address))));
    }
    Item::dict(values)
}

/// "Compact IP-address/port info".
fn write_address(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

/// "Compact node info" of those of `contacts` that are of this family.
pub fn write_contacts(contacts: &[Contact], family: Family) -> Vec<u8> {
    let mut bytes = Vec::new();
    for contact in contacts.iter().filter(|contact| Family::of(contact.address.ip()) == family) {
        bytes.extend(contact.id.0);
        bytes.extend(write_address(contact.address));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::krpc::ErrorCode;
    use crate::units::InfoHash;

    const ID: NodeId = NodeId(*b"abcdefghij0123456789");

    fn message(body: Body) -> Message {
        Message { transaction: b"aa".to_vec(), body, asker: None, read_only: false }
    }

    #[test]
    fn queries_byte_for_byte() {
        let info_hash = InfoHash(*b"mnopqrstuvwxyz123456");
        let token = b"aoeusnth".to_vec();
        let both = Want { v4: true, v6: true };
        let cases = [
            (Query::Ping, "d1:ad2:id20:abcdefghij0123456789e1:q4:ping"),
            (
                Query::FindNode { target: info_hash.into(), want: Want::default() },
                "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node",
            ),
            (
                Query::GetPeers { info_hash, want: both },
                "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee\
                 1:q9:get_peers",
            ),
            (
                Query::AnnouncePeer { info_hash, port: 6881, implied_port: false, token },
                "d1:ad2:id20:abcdefghij012345678912:implied_porti0e9:info_hash20:\
                 mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer",
            ),
        ];
        for (query, start) in cases {
            let mut message = message(Body::Query(ID, query));
            let written = String::from_utf8(message.encode()).unwrap();
            assert_eq!(written, format!("{start}1:t2:aa1:v4:RU\0\x011:y1:qe"));
            message.read_only = true;
            let written = String::from_utf8(message.encode()).unwrap();
            assert_eq!(written, format!("{start}2:roi1e1:t2:aa1:v4:RU\0\x011:y1:qe"));
        }
    }

    #[test]
    fn answers_byte_for_byte() {
        let contact = |address: &str| Contact { id: ID, address: address.parse().unwrap() };
        let response = Response {
            id: NodeId(*b"mnopqrstuvwxyz123456"),
            nodes: vec![
                contact("[6162:6364:6566:6768:696a:6b6c:6d6e:6f70]:24930"),
                contact("97.98.99.100:12345"),
            ],
            values: vec!["49.50.51.52:13622".parse().unwrap()],
            token: Some(b"aoeusnth".to_vec()),
        };
        let asker = Some("120.120.120.120:31097".parse().unwrap());
        let answer = Message { asker, ..message(Body::Response(response)) };
        assert_eq!(
            String::from_utf8(answer.encode()).unwrap(),
            "d2:ip6:xxxxyy1:rd2:id20:mnopqrstuvwxyz1234565:nodes26:abcdefghij0123456789abcd09\
             6:nodes638:abcdefghij0123456789abcdefghijklmnopab5:token8:aoeusnth\
             6:valuesl6:123456ee1:t2:aa1:v4:RU\0\x011:y1:re"
        );
        let pong = message(Body::Response(Response::new(ID)));
        assert_eq!(
            String::from_utf8(pong.encode()).unwrap(),
            "d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:v4:RU\0\x011:y1:re"
        );
        let error = message(Body::Error(ErrorCode::PROTOCOL));
        assert_eq!(
            String::from_utf8(error.encode()).unwrap(),
            "d1:eli203e14:Protocol Errore1:t2:aa1:v4:RU\0\x011:y1:ee"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let mut id = || NodeId(std::array::from_fn(|_| rng.u8(..)));
            let (one, two) = (id(), id());
            let address = |rng: &mut fastrand::Rng, v6: bool| match v6 {
                false => SocketAddr::from((rng.u32(..).to_be_bytes(), rng.u16(..))),
                true => SocketAddr::from((rng.u128(..).to_be_bytes(), rng.u16(..))),
            };
            let contact =
                |rng: &mut fastrand::Rng, v6| Contact { id: one, address: address(rng, v6) };
            let token: Vec<u8> = (0..rng.usize(..20)).map(|_| rng.u8(..)).collect();
            let want = Want { v4: rng.bool(), v6: rng.bool() };
            let body = match rng.u8(..6) {
                0 => Body::Query(one, Query::Ping),
                1 => Body::Query(one, Query::FindNode { target: two, want }),
                2 => Body::Query(one, Query::GetPeers { info_hash: InfoHash(two.0), want }),
                3 => {
                    let (port, implied_port) = (rng.u16(1..), rng.bool());
                    let info_hash = InfoHash(two.0);
                    Body::Query(one, Query::AnnouncePeer { info_hash, port, implied_port, token })
                }
                4 => Body::Error(ErrorCode(rng.i64(..))),
                _ => {
                    let v4 =
                        (0..rng.usize(..8)).map(|_| contact(&mut rng, false)).collect::<Vec<_>>();
                    let v6 =
                        (0..rng.usize(..8)).map(|_| contact(&mut rng, true)).collect::<Vec<_>>();
                    let values = (0..rng.usize(..20)).map(|_| {
                        let v6 = rng.bool();
                        address(&mut rng, v6)
                    });
                    Body::Response(Response {
                        id: one,
                        values: values.collect(),
                        nodes: [v4, v6].concat(),
                        token: Some(token),
                    })
                }
            };
            let asker = rng.bool().then(|| address(&mut rng, true));
            let transaction = (0..rng.usize(..32)).map(|_| rng.u8(..)).collect();
            let message = Message { transaction, body, asker, read_only: rng.bool() };
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }
}
