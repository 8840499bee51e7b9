//! Which master of a Redis Cluster serves which slot.

use wsguard_proto::cluster::store::Value;
use wsguard_proto::cluster::url::Host;

const SLOTS: u16 = 16_384;

/// Who serves which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    pub(super) masters: Vec<Host>,
    /// For each slot an index of `masters`.
    owners: Vec<u16>,
}

impl SlotMap {
    /// Reads what `CLUSTER SLOTS` answered on `asked`; `None`: that is no such answer, or slots are served by nobody.
    pub(super) fn read(value: &Value, asked: &Host) -> Option<Self> {
        let Value::Array(ranges) = value else { return None };
        let mut map = Self { masters: Vec::new(), owners: vec![u16::MAX; usize::from(SLOTS)] };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { return None };
            let master = host(master, asked)?;
            let index = map.masters.iter().position(|known| *known == master).unwrap_or(map.masters.len());
            if index == map.masters.len() {
                map.masters.push(master);
            }
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            let index = u16::try_from(index).ok()?;
            map.owners.get_mut(first..=last)?.fill(index);
        }
        (!map.owners.contains(&u16::MAX)).then_some(map)
    }

    /// Who serves a key or a sharded channel.
    pub(super) fn owner(&self, key: &[u8]) -> &Host {
        &self.masters[usize::from(self.owners[usize::from(slot(key))])]
    }
}

/// A node that has no name of its own is where it was asked.
fn host(values: &[Value], asked: &Host) -> Option<Host> {
    let [name, Value::Int(port), ..] = values else { return None };
    let name = match name {
        Value::Nil => asked.name.clone(),
        Value::Bytes(name) if name.is_empty() => asked.name.clone(),
        Value::Bytes(name) => String::from_utf8(name.clone()).ok()?,
        _ => return None,
    };
    Some(Host { name, port: u16::try_from(*port).ok()? })
}

/// Where a command is to go instead: what follows `MOVED` and `ASK`.
pub(super) fn redirection(error: &str, asked: &Host) -> Option<Host> {
    let place = error.split(' ').nth(2)?;
    let (name, port) = place.rsplit_once(':')?;
    let name = if name.is_empty() || name == "?" { asked.name.as_str() } else { name };
    Some(Host { name: name.to_owned(), port: port.parse().ok()? })
}

/// The slot of a key: what stands in its first pair of braces decides, if anything does.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().into())
    }

    fn range(first: i64, last: i64, name: Value, port: i64) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(vec![name, Value::Int(port), bytes("id")])])
    }

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "as the specification of Redis Cluster says");
        // As CLUSTER KEYSLOT answers.
        for (key, expected) in [("foo", 12182), ("{foo}bar", 12182), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(slot(b"wsguard:{prod}:nodes"), slot(b"wsguard:{prod}:bans:until"));
    }

    #[test]
    fn a_map_covers_all_slots_or_is_none() {
        let asked = Host { name: "seed".to_owned(), port: 1 };
        let whole = Value::Array(vec![range(0, 9000, bytes("a"), 7000), range(9001, 16383, Value::Nil, 7001)]);
        let map = SlotMap::read(&whole, &asked).unwrap();
        assert_eq!(map.owner(b"foo"), &Host { name: "seed".to_owned(), port: 7001 });
        assert_eq!(map.owner(b"foo{}{bar}"), &Host { name: "a".to_owned(), port: 7000 });
        for bad in [
            Value::Array(vec![]),
            Value::Nil,
            Value::Array(vec![range(0, 16382, bytes("a"), 1)]),
            Value::Array(vec![range(0, 16384, bytes("a"), 1)]),
            Value::Array(vec![range(5, 1, bytes("a"), 1), range(0, 16383, bytes("a"), 70000)]),
            Value::Array(vec![range(-1, 16383, bytes("a"), 1)]),
        ] {
            assert_eq!(SlotMap::read(&bad, &asked), None);
        }
    }

    #[test]
    fn redirections_are_read() {
        let asked = Host { name: "seed".to_owned(), port: 1 };
        let to = |error| redirection(error, &asked).map(|host| host.to_string());
        assert_eq!(to("MOVED 3999 127.0.0.1:6381").as_deref(), Some("127.0.0.1:6381"));
        assert_eq!(to("ASK 3999 :6381").as_deref(), Some("seed:6381"));
        assert_eq!(to("MOVED 3999 ::1:6381").as_deref(), Some("[::1]:6381"));
        assert_eq!(to("MOVED 3999"), None);
        assert_eq!(to("MOVED 3999 a:x"), None);
    }
}
