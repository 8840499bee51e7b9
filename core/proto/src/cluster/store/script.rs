//! The scripts.

use core::fmt::{self, Write};
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// A Lua script.
pub struct Script {
    /// For a log line.
    pub name: &'static str,
    /// What is run.
    pub text: &'static str,
    sha1: OnceLock<Box<str>>,
}

impl Script {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, sha1: OnceLock::new() }
    }

    /// By which Redis knows it, as `EVALSHA` wants it.
    pub fn sha1(&self) -> &str {
        self.sha1.get_or_init(|| {
            {
                let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes());
                hash.as_ref().iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            }
            .into()
        })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! scripts {
    ($($constant:ident $name:literal = $($part:literal)+;)*) => {
        $(pub(super) static $constant: Script = Script::new($name, concat!($(include_str!($part)),+));)*
        /// All of them: to be loaded once.
        pub static SCRIPTS: &[&Script] = &[$(&$constant),*];
    };
}

scripts! {
    BEAT "beat" = "beat.lua";
    LEAVE "leave" = "leave.lua";
    ENTER "enter" = "user.lua" "enter.lua";
    EXIT "exit" = "user.lua" "exit.lua";
    RESTORE "restore" = "user.lua" "restore.lua";
    SHARE "share" = "user.lua" "share.lua";
    REPORT "report" = "user.lua" "report.lua";
    TAKE_OVER "take_over" = "user.lua" "take_over.lua";
    DISCONNECT "disconnect" = "log.lua" "disconnect.lua";
    BAN "ban" = "log.lua" "ban.lua";
    UNBAN "unban" = "log.lua" "unban.lua";
    BANS "bans" = "bans.lua";
    RIGHTS "rights" = "rights.lua";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_sha1() {
        let script = Script::new("one", "return 1");
        assert_eq!(script.sha1(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "as SCRIPT LOAD answers");
    }

    #[test]
    fn scripts_differ() {
        let mut known: Vec<&str> = SCRIPTS.iter().map(|script| script.sha1()).collect();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), SCRIPTS.len());
    }
}
