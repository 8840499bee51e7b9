//! A message for many connections: encoded once, and compressed once for each window size that somebody has agreed to.

use std::sync::{Arc, OnceLock};

use wsguard_proto::deflate::{Agreed, Deflate, Pressed, WINDOW_SIZES, payload_bytes};
use wsguard_proto::options::Compression;

/// Made when it is first needed; `None`: it would not be shorter.
type Form = OnceLock<Option<Arc<[u8]>>>;

/// A whole frame in all its forms.
#[derive(Debug)]
pub(super) struct SharedFrame {
    plain: Arc<[u8]>,
    /// By window size, made by the first shard that has a use for it; `None`: it is not to be compressed.
    compressed: Option<Box<[Form; WINDOW_SIZES]>>,
}

impl SharedFrame {
    /// `plain`: it is not to be compressed.
    pub(super) fn new(frame: Vec<u8>, plain: bool) -> Self {
        let compressed = (!plain).then(Box::default);
        Self { plain: frame.into(), compressed }
    }

    pub(super) fn len(&self) -> usize {
        self.plain.len()
    }

    pub(super) fn plain(&self) -> &Arc<[u8]> {
        &self.plain
    }

    /// The frame for a connection that has agreed to compression, and what became of it. Its level is that of the first for whom it
    /// is compressed.
    pub(super) fn pressed(&self, agreed: Agreed, rules: &Compression, deflate: &mut Deflate) -> (&Arc<[u8]>, Pressed) {
        let as_it_is = (&self.plain, Pressed::default());
        let payload = payload_bytes(&self.plain);
        let Some(made) = self.compressed.as_ref().and_then(|made| made.get(agreed.window_index())) else {
            return as_it_is;
        };
        if payload < rules.threshold_bytes.max(1) {
            return as_it_is;
        }
        if made.get().is_none() && !deflate.budget.has_room_for(payload) {
            return (&self.plain, Pressed { skipped: 1, ..Pressed::default() });
        }
        // A shard that needs it while another makes it waits, for no longer than making it would take.
        let compressed = made.get_or_init(|| {
            let mut frame = Vec::new();
            let whatever_its_size = Compression { threshold_bytes: 0, ..*rules };
            let pressed = deflate.push_frames(agreed, &whatever_its_size, &self.plain, &mut frame);
            (pressed.messages > 0).then(|| frame.into())
        });
        let pressed =
            |frame: &Arc<[u8]>| Pressed { messages: 1, skipped: 0, saved_bytes: self.plain.len() - frame.len() };
        compressed.as_ref().map_or(as_it_is, |frame| (frame, pressed(frame)))
    }
}
