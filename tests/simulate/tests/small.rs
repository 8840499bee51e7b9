//! Small worlds, each of another seed: everything holds. `make simulate` runs large ones.

use wsguard_simulate::world::{Plan, World};

/// How many dead nodes were looked for.
fn holds(plan: Plan) -> u64 {
    let mut world = World::new(plan);
    world.run();
    assert!(world.verdict.wrong.is_empty(), "{plan:?}: {:?}", world.verdict.wrong);
    assert!(world.verdict.bounded > 1000 && world.verdict.shared_checked > 100, "{:?}", world.verdict);
    world.verdict.remains_checked
}

#[test]
fn with_nothing_wrong() {
    assert_eq!(holds(Plan { seed: 7, nodes: 5, users: 200, faults_s: 0, is_loud: false }), 0);
}

#[test]
fn with_much_wrong() {
    let plan = |seed| Plan { seed, nodes: 6, users: 300, faults_s: 40, is_loud: false };
    let dead: u64 = (1..=4).map(|seed| holds(plan(seed))).sum();
    assert!(dead >= 10, "{dead}");
}
