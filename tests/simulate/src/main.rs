//! `wsguard-simulate [--nodes N] [--users N] [--seed N] [--faults SECONDS] [--loud]`

use std::time::Instant;

use wsguard_simulate::world::{Plan, World};

fn main() {
    let mut plan = Plan { seed: 1, nodes: 50, users: 20_000, faults_s: 60, is_loud: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|number| number.parse::<u64>().ok());
        match (&*word, number_for(&word, &mut number)) {
            ("--nodes", Some(number)) if number > 0 => plan.nodes = number as usize,
            ("--users", Some(number)) if number > 0 => plan.users = number as usize,
            ("--seed", Some(number)) => plan.seed = number,
            ("--faults", Some(number)) => plan.faults_s = number,
            ("--loud", _) => plan.is_loud = true,
            _ => {
                eprintln!("usage: wsguard-simulate [--nodes N] [--users N] [--seed N] [--faults SECONDS] [--loud]");
                std::process::exit(2);
            }
        }
    }
    let began = Instant::now();
    println!("{} nodes, {} users, {} s of faults, seed {}", plan.nodes, plan.users, plan.faults_s, plan.seed);
    let mut world = World::new(plan);
    world.run();
    world.verdict.tell();
    world.meter.tell();
    println!("{} s", began.elapsed().as_secs());
    if !world.verdict.wrong.is_empty() {
        std::process::exit(1);
    }
}

fn number_for(word: &str, number: &mut dyn FnMut() -> Option<u64>) -> Option<u64> {
    if word == "--loud" { None } else { number() }
}
