//! What a server may send, by a reader that shares nothing with the encoder.

/// Checks that `out` is whole server frames and nothing behind a close frame; returns the opcodes.
pub fn check(out: &[u8]) -> Vec<u8> {
    let mut opcodes = Vec::new();
    let mut rest = out;
    while let [first, second, tail @ ..] = rest {
        assert!(opcodes.last() != Some(&8), "a frame follows a close frame");
        assert_eq!(first & 0x70, 0, "reserved bits");
        assert_ne!(first & 0x80, 0, "the server sends no fragments");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let opcode = first & 0x0f;
        let (len, tail) = match second {
            126 => {
                let (len, tail) = tail.split_first_chunk().expect("a cut length");
                (u64::from(u16::from_be_bytes(*len)), tail)
            }
            127 => {
                let (len, tail) = tail.split_first_chunk().expect("a cut length");
                (u64::from_be_bytes(*len), tail)
            }
            short => (u64::from(*short), tail),
        };
        assert!(*second < 126 || len > 125, "length not in its shortest form");
        assert!(*second < 127 || len > 0xffff, "length not in its shortest form");
        assert!(len <= tail.len() as u64, "a cut frame");
        let (payload, tail) = tail.split_at(len as usize);
        assert!(opcode < 8 || len <= 125, "a long control frame");
        match opcode {
            1 => drop(std::str::from_utf8(payload).expect("text in UTF-8")),
            2 | 9 | 10 => {}
            8 => check_close(payload),
            _ => panic!("opcode {opcode}"),
        }
        opcodes.push(opcode);
        rest = tail;
    }
    assert!(rest.is_empty(), "a cut header");
    opcodes
}

fn check_close(payload: &[u8]) {
    let [high, low, reason @ ..] = payload else {
        return assert!(payload.is_empty(), "a close payload of one byte");
    };
    let code = u16::from_be_bytes([*high, *low]);
    let sendable = (1000..=1014).contains(&code) && !(1004..=1006).contains(&code) || (3000..=4999).contains(&code);
    assert!(sendable, "close code {code}");
    std::str::from_utf8(reason).expect("a reason in UTF-8");
}
