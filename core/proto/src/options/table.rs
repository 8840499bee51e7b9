//! What a row of the table of options is: the macros that make a structure of the rows, and what the rows say when asked.
//!
//! Which options there are stands in `stated.rs` alone.

/// One option: a row of the table.
#[derive(Debug)]
pub struct OptionInfo {
    /// The name, in `snake_case`.
    pub name: &'static str,
    doc: &'static [&'static str],
    /// What is accepted.
    pub shape: Shape,
    /// Whether `null` is accepted, and means the same as leaving it out or switching it off.
    pub is_nullable: bool,
    absent: Option<&'static str>,
    default: fn() -> String,
    flags: &'static [Flag],
}

impl OptionInfo {
    pub(super) const fn new(
        name: &'static str,
        doc: &'static [&'static str],
        shape: Shape,
        is_nullable: bool,
        default: fn() -> String,
    ) -> Self {
        Self { name, doc, shape, is_nullable, absent: None, default, flags: &[] }
    }

    pub(super) const fn flagged(mut self, flags: &'static [Flag], absent: &'static [&'static str]) -> Self {
        self.flags = flags;
        if let [words] = absent {
            self.absent = Some(words);
        }
        self
    }

    /// The meaning, without the default and the range.
    pub fn doc(&self) -> String {
        prose(self.doc)
    }

    /// The default as JSON; `null` also where there is none.
    pub fn default_json(&self) -> String {
        (self.default)()
    }

    /// What it means that the option is left out, where that is not a value: `every path`.
    pub fn absent(&self) -> Option<&'static str> {
        self.absent.filter(|_| !self.is_required())
    }

    /// Whether the option must be stated where its object is.
    pub fn is_required(&self) -> bool {
        self.absent == Some("required")
    }

    /// Whether the reader asks for it; `origins` and `auth` may still be stated later, up to the start.
    pub(super) fn is_required_at_once(&self) -> bool {
        self.flags.contains(&Flag::AtOnce)
    }

    /// Whether it is, or may hold, a credential.
    pub fn is_secret(&self) -> bool {
        self.flags.contains(&Flag::Secret)
    }

    /// What the option is about; inside an object, what the object is about.
    pub fn scope(&self) -> Option<Scope> {
        self.flags.iter().find_map(|flag| match flag {
            Flag::Process => Some(Scope::Process),
            Flag::Route => Some(Scope::Route),
            _ => None,
        })
    }

    /// Whether it may change while the server runs.
    pub fn is_reloadable(&self) -> bool {
        !self.flags.contains(&Flag::Fixed)
    }
}

/// What an option is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole process: what is decided before the path of a request is known, or for all connections together.
    Process,
    /// A handshake or a message: it could differ from one path to another.
    Route,
}

/// A remark on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// [`Scope::Process`].
    Process,
    /// [`Scope::Route`].
    Route,
    /// Decided once, when the server starts.
    Fixed,
    /// Its object makes no sense without it.
    AtOnce,
    /// Never shown.
    Secret,
}

/// An object with options for members.
#[derive(Debug)]
pub struct Section {
    /// What the structure is called.
    pub name: &'static str,
    doc: &'static [&'static str],
    /// Its members, in the order of the table.
    pub options: &'static [OptionInfo],
}

impl Section {
    pub(super) const fn new(name: &'static str, doc: &'static [&'static str], options: &'static [OptionInfo]) -> Self {
        Self { name, doc, options }
    }

    /// What the object is.
    pub fn doc(&self) -> String {
        prose(self.doc)
    }

    /// The option of this name.
    pub fn find(&self, name: &str) -> Option<&'static OptionInfo> {
        self.options.iter().find(|option| option.name == name)
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.options.iter().map(|option| option.name).collect()
    }
}

/// Lines of documentation as one text.
fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// What a value must be. The texts are what errors say is accepted, without `must be`.
#[derive(Debug)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// A text.
    Text(&'static str),
    /// A whole number within bounds; its unit is the end of the option's name.
    Whole {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// One of some whole numbers.
    Codes(&'static [u64]),
    /// A number, fractions allowed.
    Number {
        /// The smallest.
        least: f64,
        /// The largest.
        most: f64,
        /// What is accepted.
        words: &'static str,
    },
    /// One of some texts.
    Choice(&'static [&'static str]),
    /// A list.
    List {
        /// What each entry is.
        item: &'static Shape,
        /// The longest.
        most: usize,
        /// What is accepted.
        words: &'static str,
    },
    /// An object whose names the application chooses.
    Map {
        /// What each member is.
        item: &'static Shape,
        /// The largest number of members.
        most: usize,
        /// What is accepted.
        words: &'static str,
    },
    /// An object of options.
    Section {
        /// Which.
        section: &'static Section,
        /// What is accepted.
        words: &'static str,
    },
    /// One of some texts, or an object of which exactly one member is given.
    Ways {
        /// The texts.
        names: &'static [&'static str],
        /// The members.
        section: &'static Section,
        /// What is accepted.
        words: &'static str,
    },
    /// A text or a list of texts.
    OneOrMany(&'static str),
    /// Those of all options that a route may state.
    Route(&'static str),
    /// Any JSON; it is judged elsewhere.
    Any,
}

impl Shape {
    /// What is accepted of an option of this name, in the words of an error.
    pub fn words(&self, name: &str) -> String {
        match self {
            Shape::Flag => "true or false".to_owned(),
            Shape::Whole { least, most } => format!("a whole number{} from {least} to {most}", unit(name)),
            Shape::Codes(codes) => or(codes.iter().map(u64::to_string)),
            Shape::Choice(names) => or(names.iter().map(|name| format!("\"{name}\""))),
            Shape::Text(words)
            | Shape::Route(words)
            | Shape::OneOrMany(words)
            | Shape::Number { words, .. }
            | Shape::List { words, .. }
            | Shape::Map { words, .. }
            | Shape::Section { words, .. }
            | Shape::Ways { words, .. } => (*words).to_owned(),
            Shape::Any => "any JSON".to_owned(),
        }
    }

    /// The objects of options that a value of this shape may hold.
    pub fn section(&self) -> Option<&'static Section> {
        match self {
            Shape::Section { section, .. } | Shape::Ways { section, .. } => Some(section),
            Shape::List { item, .. } | Shape::Map { item, .. } => item.section(),
            _ => None,
        }
    }

    /// What each entry of a list or an object is.
    pub(super) fn item(&self) -> &'static Shape {
        match self {
            Shape::List { item, .. } | Shape::Map { item, .. } => item,
            _ => &Shape::Any,
        }
    }
}

fn unit(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("_bytes") => " of bytes",
        _ if name.ends_with("_ms") => " of milliseconds",
        _ if name.ends_with("_s") => " of seconds",
        _ => "",
    }
}

/// `1`, `1 or 2`, `1, 2 or 3`.
fn or(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    match items.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => items.concat(),
    }
}

/// Structures whose fields are options, from rows
///
/// ```text
/// /// What it is.
/// name: Type = default, [shape] Flags, "what leaving it out means";
/// ```
///
/// Each becomes a field with its documentation, its default, how it is read and checked, and an [`OptionInfo`].
macro_rules! options {
    ($(
        $(#[doc = $doc:literal])+
        $structure:ident($($derive:ident),*) {
            $(
                $(#[doc = $about:literal])+
                $name:ident: $type:ty = $default:expr, [$($shape:tt)+] $($flag:ident)* $(, $absent:literal)?;
            )+
        }
    )+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, $($derive),*)]
        #[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
        pub struct $structure {
            $(
                $(#[doc = $about])+
                #[doc = shape_doc!($($shape)+)]
                #[doc = default_doc!($default $(, $absent)?)]
                pub $name: $type,
            )+
        }

        impl $structure {
            /// Its rows.
            pub(crate) const SECTION: &'static Section = &Section::new(stringify!($structure), &[$($doc),+], &[$(
                OptionInfo::new(
                    stringify!($name), &[$($about),+], shape!($($shape)+), <$type as Field>::IS_NULLABLE,
                    || Field::json(&$structure::default().$name),
                ).flagged(&[$(Flag::$flag),*], &[$($absent)?]),
            )+]);

            /// Reads the member `name` and puts it into its field. `false`: there is no such option.
            pub(super) fn put(&mut self, name: &str, value: &Value, at: At<'_>) -> Result<bool, ConfigError> {
                match name {
                    $(stringify!($name) => self.$name = <$type as Field>::read(value, shape_of(Self::SECTION, name), at)?,)+
                    _ => return Ok(false),
                }
                Ok(true)
            }

            /// Checks the range of the field `name`, and of what is inside it.
            pub(super) fn check_one(&self, name: &str, at: At<'_>) -> Result<(), ConfigError> {
                match name {
                    $(stringify!($name) => self.$name.check(shape_of(Self::SECTION, name), at),)+
                    _ => Ok(()),
                }
            }

            /// The field `name` as JSON.
            #[allow(dead_code, reason = "only some structures are looked at option by option")]
            pub(crate) fn json_of(&self, name: &str) -> String {
                match name {
                    $(stringify!($name) => Field::json(&self.$name),)+
                    _ => String::new(),
                }
            }

            /// Takes the field `name` over from `other`.
            #[allow(dead_code, reason = "only some structures are put together option by option")]
            pub(super) fn take(&mut self, name: &str, other: Self) {
                match name {
                    $(stringify!($name) => self.$name = other.$name,)+
                    _ => {}
                }
            }
        }

        impl Default for $structure {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl core::fmt::Debug for $structure {
            /// Without what may be a credential.
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut shown = f.debug_struct(stringify!($structure));
                let flags: &[(&str, &[Flag], &dyn core::fmt::Debug)] =
                    &[$((stringify!($name), &[$(Flag::$flag),*], &self.$name)),+];
                for (name, flags, value) in flags {
                    let is_secret = flags.contains(&Flag::Secret);
                    shown.field(name, if is_secret { &"[redacted]" as &dyn core::fmt::Debug } else { *value });
                }
                shown.finish()
            }
        }

        impl Field for $structure {
            fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
                let members = members(value, shape, at)?;
                let mut read = Self::default();
                for (name, value) in members {
                    if !read.put(name, value, at.name_of(name))? {
                        return Err(at.unknown(name, &Self::SECTION.names()));
                    }
                }
                all_there(value, Self::SECTION, at)?;
                Ok(read)
            }

            fn check(&self, _: &'static Shape, at: At<'_>) -> Result<(), ConfigError> {
                Self::SECTION.options.iter().try_for_each(|option| self.check_one(option.name, at.name_of(option.name)))
            }

            fn json(&self) -> String {
                json_object(&[$((stringify!($name), Field::json(&self.$name))),+])
            }
        }

        impl<'de> serde::Deserialize<'de> for $structure {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
                <Self as Field>::read(&value, &Shape::Any, At::outermost(Self::SECTION)).map_err(serde::de::Error::custom)
            }
        }
    )+ };
}

/// A choice between names; the first is the default.
macro_rules! choices {
    ($(
        $(#[doc = $doc:literal])+
        $choice:ident {
            $(#[doc = $about:literal])+
            $first:ident = $first_name:literal,
            $($(#[doc = $others_about:literal])+ $other:ident = $other_name:literal,)*
        }
    )+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        pub enum $choice {
            $(#[doc = $about])+
            #[default]
            $first,
            $($(#[doc = $others_about])+ $other,)*
        }

        impl $choice {
            const NAMES: &'static [&'static str] = &[$first_name, $($other_name),*];
        }

        impl Field for $choice {
            fn read(value: &Value, shape: &'static Shape, at: At<'_>) -> Result<Self, ConfigError> {
                match value.as_str() {
                    Some($first_name) => Ok(Self::$first),
                    $(Some($other_name) => Ok(Self::$other),)*
                    Some(_) => Err(at.refused(value, shape, Fault::Value)),
                    None => Err(at.refused(value, shape, Fault::Type)),
                }
            }

            fn json(&self) -> String {
                match self {
                    Self::$first => concat!("\"", $first_name, "\"").to_owned(),
                    $(Self::$other => concat!("\"", $other_name, "\"").to_owned(),)*
                }
            }
        }
    )+ };
}

/// The [`Shape`] of a row.
macro_rules! shape {
    (flag) => { Shape::Flag };
    (text $words:literal) => { Shape::Text($words) };
    (whole $least:literal..=$most:literal) => { Shape::Whole { least: $least, most: $most } };
    (codes $($code:literal),+) => { Shape::Codes(&[$($code),+]) };
    (number $least:literal..=$most:literal $words:literal) => {
        Shape::Number { least: $least, most: $most, words: $words }
    };
    (choice $choice:ident) => { Shape::Choice($choice::NAMES) };
    (list $words:literal of $($item:tt)+) => { Shape::List { item: &shape!($($item)+), most: usize::MAX, words: $words } };
    (list $most:literal $words:literal of $($item:tt)+) => {
        Shape::List { item: &shape!($($item)+), most: $most, words: $words }
    };
    (map $most:literal $words:literal of $($item:tt)+) => {
        Shape::Map { item: &shape!($($item)+), most: $most, words: $words }
    };
    (section $structure:ident $words:literal) => { Shape::Section { section: $structure::SECTION, words: $words } };
    (ways $structure:ident $words:literal or $($name:literal),+) => {
        Shape::Ways { names: &[$($name),+], section: $structure::SECTION, words: $words }
    };
    (one_or_many $words:literal) => { Shape::OneOrMany($words) };
    (route $words:literal) => { Shape::Route($words) };
    (any) => { Shape::Any };
}

/// What rustdoc says of the values of a row.
macro_rules! shape_doc {
    (text $words:literal) => { concat!("\n\nAccepted: ", $words, ".") };
    (whole $least:literal..=$most:literal) => { concat!("\n\nFrom ", stringify!($least), " to ", stringify!($most), ".") };
    (codes $($code:literal),+) => { concat!("\n\nOne of ", stringify!($($code),+), ".") };
    (number $least:literal..=$most:literal $words:literal) => {
        concat!("\n\nFrom ", stringify!($least), " to ", stringify!($most), ".")
    };
    ($form:ident $most:literal $words:literal of $($item:tt)+) => { concat!("\n\nAt most ", stringify!($most), " entries.") };
    ($($other:tt)+) => { "" };
}

/// What rustdoc says of the default of a row.
macro_rules! default_doc {
    ($default:expr, "required") => {
        "\n\n**Required.**"
    };
    ($default:expr, $absent:literal) => {
        concat!("\n\nDefault: ", $absent, ".")
    };
    ($default:expr) => {
        concat!("\n\nDefault: `", stringify!($default), "`.")
    };
}
