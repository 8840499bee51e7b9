//! Gives the shared library the name that programs are linked to: `libwsguard.so.0`, for as long as the ABI holds.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwsguard.so.0");
    }
}
