//! Gives the shared library the name that programs are linked to, for as long as the ABI holds: `libwsguard.so.0`, on macOS
//! `libwsguard.0.dylib`, which `install.sh` completes.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux") => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwsguard.so.0"),
        Ok("macos") => println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libwsguard.0.dylib"),
        _ => {}
    }
}
