//! Streams of client frames: mostly right, wrong in each way now and then.

use arbitrary::{Result, Unstructured};

/// No stream is longer by much.
const MAX_STREAM: usize = 150_000;

const PATTERNS: [&str; 4] = ["a", "é", "語", "😀"];

/// Frames until the input is used up.
pub fn stream(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !input.is_empty() && out.len() < MAX_STREAM {
        if frame(input, &mut out).is_err() {
            break;
        }
    }
    out
}

/// Appends one frame.
pub fn frame(input: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let shape: u8 = input.arbitrary()?;
    let opcode = match shape & 0x0f {
        0..=3 => 1,
        4 | 5 => 2,
        6..=9 => 0,
        10 | 11 => 9,
        12 => 10,
        13 => 8,
        14 => input.arbitrary::<u8>()? & 0x7f,
        _ => {
            out.extend_from_slice(byte_run(input)?);
            return Ok(());
        }
    };
    let fin = if shape & 0x10 == 0 { 0x80 } else { 0 };
    let payload = match shape >> 5 {
        0..=3 => byte_run(input)?.to_vec(),
        4 => close_payload(input)?,
        5 | 6 => pattern(input)?,
        _ => Vec::new(),
    };
    let flaw: u8 = input.arbitrary()?;
    let mask = if flaw & 0x80 == 0 { [0; 4] } else { input.arbitrary()? };
    let claimed = if flaw & 0x7f == 1 { input.arbitrary()? } else { payload.len() as u64 };
    let masked = if flaw & 0x7f == 2 { 0 } else { 0x80 };
    out.push(fin | opcode);
    match (claimed, flaw & 0x7f) {
        (_, 3) => long(out, masked, claimed),
        (0..=0xffff, 4) | (126..=0xffff, _) => {
            out.push(masked | 126);
            out.extend_from_slice(&(claimed as u16).to_be_bytes());
        }
        (0..=125, _) => out.push(masked | claimed as u8),
        _ => long(out, masked, claimed),
    }
    if masked != 0 {
        out.extend_from_slice(&mask);
    }
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    Ok(())
}

fn long(out: &mut Vec<u8>, masked: u8, len: u64) {
    out.push(masked | 127);
    out.extend_from_slice(&len.to_be_bytes());
}

/// A few bytes of the input as they are.
fn byte_run<'i>(input: &mut Unstructured<'i>) -> Result<&'i [u8]> {
    let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
    input.bytes(len)
}

fn close_payload(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut payload = input.arbitrary::<u16>()?.to_be_bytes().to_vec();
    payload.extend_from_slice(byte_run(input)?);
    Ok(payload)
}

/// A character over and over, perhaps cut inside: long messages from few bytes.
fn pattern(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let character = PATTERNS[usize::from(input.arbitrary::<u8>()?) % PATTERNS.len()];
    let len = usize::from(input.arbitrary::<u16>()?) + if input.ratio(1, 16)? { 60_000 } else { 0 };
    Ok(character.bytes().cycle().take(len).collect())
}
