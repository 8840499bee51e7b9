//! The arithmetic of what one connection may have pending. Compiled here, because the library itself is Python's.

#[path = "../src/pending.rs"]
mod pending;

use pending::{MAX_PENDING_MESSAGES, TIMES_WHILE_ASKING, max_pending_bytes};

#[test]
fn one_user_or_address_fills_a_quarter_of_the_inbox_at_most() {
    for inbox in [1, 1000, 65_536, 1 << 20, 67_108_864, 1 << 40, usize::MAX] {
        for per_user in [1, 2, 64, 1000, 1 << 24] {
            for per_ip in [1, 3, 256, 1 << 24] {
                let each = max_pending_bytes(inbox, per_user, per_ip);
                let all = each as u128 * per_user.max(per_ip) as u128;
                assert!(each == 1 || all <= inbox as u128 / 4, "{inbox} {per_user} {per_ip}: {each}");
                assert!((1..=1 << 20).contains(&each));
            }
        }
    }
}

#[test]
fn the_defaults_leave_64_kib_and_64_messages() {
    assert_eq!(max_pending_bytes(67_108_864, 64, 256), 65_536);
    assert_eq!((MAX_PENDING_MESSAGES, TIMES_WHILE_ASKING), (64, 4));
}

#[test]
fn few_connections_leave_no_more_than_1_mib_and_no_room_leaves_one_message() {
    assert_eq!(max_pending_bytes(67_108_864, 1, 4), 1 << 20);
    assert_eq!(max_pending_bytes(67_108_864, 1, 1), 1 << 20);
    assert_eq!(max_pending_bytes(1, 64, 256), 1);
    assert_eq!(max_pending_bytes(67_108_864, usize::MAX, 0), 1);
}
