//! Writes the table of options as JSON, for the types and tables of other languages:
//! `cargo run -q -p wsguard-proto --example options > core/proto/options.json`.

fn main() {
    println!("{:#}", wsguard_proto::options::options_json());
}
