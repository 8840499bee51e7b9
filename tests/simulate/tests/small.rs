//! Small worlds, each of another seed: everything holds. `make simulate` runs large ones.

use wsguard_simulate::world::{Plan, World};

fn holds(plan: Plan) {
    let mut world = World::new(plan);
    world.run();
    assert!(world.verdict.wrong.is_empty(), "{plan:?}: {:?}", world.verdict.wrong);
    assert!(world.verdict.bounded > 1000 && world.verdict.shared_checked > 100, "{:?}", world.verdict);
}

#[test]
fn with_nothing_wrong() {
    holds(Plan { seed: 7, nodes: 5, users: 200, faults_s: 0, is_loud: false });
}

#[test]
fn with_much_wrong() {
    for seed in 1..=4 {
        holds(Plan { seed, nodes: 6, users: 300, faults_s: 40, is_loud: false });
    }
}
