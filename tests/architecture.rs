//! The house rules that no compiler holds: who may import whom, what a floor must not contain, how
//! long a file may grow, that a name means one thing. The table is docs/architecture.md's; a broken rule is one sentence that
//! names the file, the line and the rule.
//!
//! ```text
//! cargo test --test architecture
//! ```

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What a module may use. The longest `module` that fits counts.
struct Floor {
    /// Module path without `crate`; empty: the crate's root.
    module: &'static str,
    /// Module paths of this crate it may import; its own is understood.
    may_import: &'static [&'static str],
    /// Dependencies it may use; `None`: all but the roof's.
    packages: Option<&'static [&'static str]>,
    /// No files, sockets, clocks, threads, channels, dice.
    pure: bool,
}

const BELOW_THE_ASSEMBLIES: &[&str] = &[
    "protocol",
    "swarm",
    "dht",
    "utp",
    "storage",
    "net",
    "announce",
    "discovery",
    "tracker",
];

/// The floors, from the ground up. `dht`, `utp` and `discovery` are not built yet: their places are marked, so that what
/// comes first of them finds its rules.
const FLOORS: &[Floor] = &[
    pure("protocol", &[], &["thiserror"]),
    pure(
        "protocol::digest",
        &["protocol"],
        &["thiserror", "sha1_smol", "sha2"],
    ),
    pure("swarm", &["protocol"], &["thiserror", "fastrand"]),
    pure("dht", &["protocol"], &["thiserror", "fastrand"]),
    pure("utp", &["protocol"], &["thiserror", "fastrand"]),
    pure(
        "tracker::registry",
        &["protocol"],
        &["thiserror", "fastrand"],
    ),
    hands("storage", &["protocol", "swarm::event"]),
    hands("net", &["protocol", "swarm::event", "storage::slot", "utp"]),
    hands("announce", &["protocol", "swarm::event"]),
    pure(
        "announce::tiers",
        &["protocol", "swarm::event"],
        &["thiserror", "fastrand"],
    ),
    hands("discovery", &["protocol", "swarm::event", "dht"]),
    hands("tracker", &["protocol"]),
    hands("client", BELOW_THE_ASSEMBLIES),
    hands("create", BELOW_THE_ASSEMBLIES),
    hands("verify", BELOW_THE_ASSEMBLIES),
    // To share is to make a torrent and to start a tracker and a client.
    hands(
        "share",
        &[
            "protocol",
            "swarm",
            "dht",
            "utp",
            "storage",
            "net",
            "announce",
            "discovery",
            "tracker",
            "client",
            "create",
        ],
    ),
    // The lab starts whole clients.
    hands(
        "lab",
        &[
            "protocol",
            "swarm",
            "dht",
            "utp",
            "storage",
            "net",
            "announce",
            "discovery",
            "tracker",
            "client",
            "create",
        ],
    ),
];

/// Modules that may print, parse arguments, and use everything.
const ROOF: &[&str] = &["cli", "main", ""];

/// Dependencies for the roof alone.
const ROOF_PACKAGES: &[&str] = &["argh", "indicatif"];

/// Names that mean a file, a socket, a clock, a thread or a lock.
const WORLDLY: &[&str] = &[
    "File",
    "OpenOptions",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant",
    "SystemTime",
    "JoinHandle",
    "RandomState",
];

/// Parts of std that touch the world.
const WORLDLY_STD: &[&str] = &["fs", "io", "thread", "process", "env", "os", "sync"];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &[
    "src/protocol/digest/lanes.rs",
    "src/protocol/digest/lanes/vectors.rs",
    "src/net/give_way.rs",
    "src/net/low_water.rs",
    "src/storage/window.rs",
];

/// Lines of a file before its tests.
const LONGEST: usize = 500;

/// Files that are longer, and how long. The list only gets shorter.
const LONGER: &[(&str, usize)] = &[];

/// Names that say nothing.
const NAMELESS: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "managers",
];

/// A name that several types may have.
struct Namesake {
    name: &'static str,
    /// The modules that define it, sorted, each as often as it does.
    modules: &'static [&'static str],
    /// Why a reader is better served by this than by two names.
    why: &'static str,
}

/// Names that are defined more than once. The list only gets shorter.
const NAMESAKES: &[Namesake] = &[
    Namesake {
        name: "Announce",
        modules: &["protocol::tracker::udp", "tracker::registry::terms"],
        why: "the same message, as a datagram has it and as the registry has it, however it came",
    },
    Namesake {
        name: "Bell",
        modules: &["net::mailbox", "tracker::bell"],
        why: "the same thing twice: its owners share no floor that may touch the world",
    },
    Namesake {
        name: "DecodeError",
        modules: &["protocol::bencode", "protocol::peer::decoder"],
        why: "why bytes are not what the path says",
    },
    Namesake {
        name: "Decoder",
        modules: &["protocol::bencode", "protocol::peer::decoder"],
        why: "reads what the path says; the usual word",
    },
    Namesake {
        name: "Done",
        modules: &["create::hashing", "storage::keeper"],
        why: "what came of a `Job`",
    },
    Namesake {
        name: "Four",
        modules: &[
            "protocol::digest::lanes::vectors",
            "protocol::digest::lanes::vectors",
        ],
        why: "the vectors of two kinds of processor, of which one is compiled",
    },
    Namesake {
        name: "Job",
        modules: &["announce", "create::hashing", "storage::keeper"],
        why: "what a thread is given to do; the path says which",
    },
    Namesake {
        name: "Question",
        modules: &["protocol::tracker::udp", "tracker::http::question"],
        why: "what a client asks a tracker, by UDP and by HTTP",
    },
    Namesake {
        name: "Spare",
        modules: &["net::copies", "swarm::spares"],
        why: "the spare of the glossary, as the hands know it and as the brain does",
    },
    Namesake {
        name: "StartError",
        modules: &["client", "tracker"],
        why: "why what the path says did not start",
    },
];

/// Async runtimes and their parts.
const RUNTIMES: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "futures-executor",
    "mio",
    "async-executor",
    "async-io",
    "glommio",
    "monoio",
    "pollster",
];

const fn pure(
    module: &'static str,
    may_import: &'static [&'static str],
    packages: &'static [&'static str],
) -> Floor {
    Floor {
        module,
        may_import,
        packages: Some(packages),
        pure: true,
    }
}

const fn hands(module: &'static str, may_import: &'static [&'static str]) -> Floor {
    Floor {
        module,
        may_import,
        packages: None,
        pure: false,
    }
}

// ---------------------------------------------------------------- the rules, over the whole house

#[test]
fn every_import_goes_down_the_stairs() {
    let packages = dependencies(&read("Cargo.toml"));
    hold(each_source(|path, text| imports(path, text, &packages)));
}

#[test]
fn what_a_floor_must_not_contain_is_not_there() {
    hold(each_source(contents));
}

#[test]
fn every_channel_says_what_bounds_it() {
    hold(each_source(bounds));
}

#[test]
fn no_module_is_empty_and_no_file_is_too_long_or_nameless() {
    let mut complaints = each_source(lengths);
    for (path, _) in LONGER {
        if !root().join(path).exists() {
            complaints.push(format!(
                "{path}: is excused for its length and does not exist"
            ));
        }
    }
    for path in files_below("src").iter().chain(&files_below("tests")) {
        complaints.extend(nameless(path));
    }
    hold(complaints);
}

#[test]
fn a_name_is_given_to_one_type_only() {
    let mut types = Vec::new();
    each_source(|path, text| {
        types.extend(types_of(path, text));
        Vec::new()
    });
    assert!(types.len() > 200, "only {} types found", types.len());
    hold(namesakes(&types, NAMESAKES));
}

#[test]
fn no_async_runtime_and_no_abort_on_panic() {
    let mut complaints = runtimes(&read("Cargo.lock"));
    complaints.extend(aborts(&read("Cargo.toml")));
    hold(complaints);
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut pages = files_below("docs");
    pages.push("README.md".to_owned());
    pages.retain(|page| page.ends_with(".md") && root().join(page).exists());
    let exists = |target: &Path| {
        fs::read_to_string(root().join(target))
            .ok()
            .or_else(|| root().join(target).exists().then(String::new))
    };
    hold(
        pages
            .iter()
            .flat_map(|page| broken_links(page, &read(page), exists))
            .collect(),
    );
}

fn hold(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Paths of all files below a folder, from the project's root, sorted.
fn files_below(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(place) = folders.pop() {
        for entry in fs::read_dir(&place).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let path = path.strip_prefix(root()).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn each_source(mut rule: impl FnMut(&str, &str) -> Vec<String>) -> Vec<String> {
    let sources: Vec<_> = files_below("src")
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .collect();
    assert!(
        sources.len() > 20,
        "only {} files found below src",
        sources.len()
    );
    sources
        .iter()
        .flat_map(|path| rule(path, &read(path)))
        .collect()
}

// ------------------------------------------------------------------------------ the rules, one file

fn imports(path: &str, text: &str, packages: &[String]) -> Vec<String> {
    let module = module_of(path);
    let Some(floor) = floor_of(&module) else {
        let known = ROOF.contains(&top(&module));
        let complaint =
            format!("{path}: the module `{module}` is on no floor: give it one in FLOORS");
        return if known { Vec::new() } else { vec![complaint] };
    };
    let mut complaints = Vec::new();
    let tokens = tokens(&without_tests(&without_text(text)));
    for (line, used) in paths(&tokens, &module, packages) {
        let (first, rest) = used.split_once("::").unwrap_or((&used, ""));
        let allowed = match first {
            "crate" => {
                let inside = |allowed: &&str| within(rest, allowed);
                rest.is_empty() || within(rest, floor.module) || floor.may_import.iter().any(inside)
            }
            "std" | "core" | "alloc" => true,
            package => match floor.packages {
                Some(few) => few.contains(&package),
                None => !ROOF_PACKAGES.contains(&package),
            },
        };
        if !allowed {
            complaints.push(format!(
                "{path}:{line}: `{}` may not use `{used}`; of this crate it may import: {}",
                floor.module,
                if floor.may_import.is_empty() {
                    "nothing else".to_owned()
                } else {
                    floor.may_import.join(", ")
                }
            ));
        }
    }
    complaints
}

fn contents(path: &str, text: &str) -> Vec<String> {
    let module = module_of(path);
    let roof = ROOF.contains(&top(&module));
    let pure = floor_of(&module).is_some_and(|floor| floor.pure);
    let code = without_text(text);
    let mut complaints = Vec::new();
    let mut complain =
        |line: usize, what: String| complaints.push(format!("{path}:{line}: {what}"));
    let all = tokens(&code);
    for (line, word) in &all {
        if word == "unsafe" && !UNSAFE.contains(&path)
            || word == "unsafe_code" && !UNSAFE.contains(&path)
        {
            complain(
                *line,
                format!("`{word}` may stand in {} only", UNSAFE.join(", ")),
            );
        }
    }
    let tokens = if is_tests(path) {
        Vec::new()
    } else {
        tokens(&without_tests(&code))
    };
    let capital = |at: usize| tokens[at].1.starts_with(char::is_uppercase);
    let is_variant = |at: usize| at > 1 && tokens[at - 1].1 == "::" && capital(at - 2);
    for (at, (line, word)) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).map_or("", |(_, next)| next.as_str());
        match word.as_str() {
            "Mutex" | "RwLock" => complain(
                *line,
                format!("`{word}`: things have one owner here and travel through channels"),
            ),
            "async" | "await" => complain(*line, format!("`{word}`: there is no async here")),
            "println" | "eprintln" | "print" | "eprint" | "dbg" if next == "!" && !roof => {
                complain(
                    *line,
                    format!("`{word}!` below the roof: only cli and main print"),
                );
            }
            // A variant of an enum of ours may have any name: `Owner::File` is no file.
            word if pure && WORLDLY.contains(&word) && !is_variant(at) => {
                complain(
                    *line,
                    format!(
                        "`{word}` in `{module}`: this floor touches no file, socket, clock or thread"
                    ),
                );
            }
            _ => {}
        }
    }
    if pure {
        for (line, used) in paths(&tokens, &module, &["fastrand".to_owned()]) {
            let parts: Vec<_> = used.split("::").collect();
            let worldly = matches!(parts[..], ["std", part, ..] if WORLDLY_STD.contains(&part) && !value_of_std(&parts));
            let dice = matches!(parts[..], ["fastrand", part, ..] if part != "Rng")
                || used == "fastrand::Rng::new";
            if worldly || dice {
                complain(
                    line,
                    format!(
                        "`{used}` in `{module}`: this floor touches no file, socket, clock, thread or dice of its own"
                    ),
                );
            }
        }
        for window in tokens.windows(4) {
            let words: Vec<_> = window.iter().map(|(_, word)| word.as_str()).collect();
            if words == ["Rng", "::", "new", "("] {
                complain(
                    window[0].0,
                    format!("`Rng::new()` in `{module}`: a seeded generator is passed in"),
                );
            }
        }
    }
    complaints
}

/// Parts of worldly modules that are mere values.
fn value_of_std(parts: &[&str]) -> bool {
    matches!(parts, ["std", "sync", "Arc", ..])
}

fn bounds(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().collect();
    let tokens = tokens(&without_tests(&without_text(text)));
    let mut complaints = Vec::new();
    for (at, (line, word)) in tokens.iter().enumerate() {
        let makes = matches!(word.as_str(), "bounded" | "unbounded" | "sync_channel");
        let called = tokens.get(at + 1).is_some_and(|(_, next)| next == "(")
            || tokens.get(at + 1).is_some_and(|(_, next)| next == "::")
                && tokens.get(at + 2).is_some_and(|(_, next)| next == "<");
        let defined = at > 0 && tokens[at - 1].1 == "fn";
        let above = line.saturating_sub(4);
        if makes
            && called
            && !defined
            && !lines[above..*line]
                .iter()
                .any(|line| line.contains("// Bound:"))
        {
            complaints.push(format!("{path}:{line}: `{word}(` without a `// Bound:` comment within the three lines above it"));
        }
    }
    complaints
}

/// The tests of the file that its folder is named for.
fn is_tests(path: &str) -> bool {
    path.ends_with("/tests.rs")
}

fn lengths(path: &str, text: &str) -> Vec<String> {
    if is_tests(path) {
        return Vec::new();
    }
    let code = without_tests(&without_text(text));
    if code.trim().is_empty() {
        return vec![format!(
            "{path}: is an empty module; the tree shows where things will go, not files"
        )];
    }
    let lines = code.trim_end().lines().count();
    let excused = LONGER
        .iter()
        .find(|(longer, _)| *longer == path)
        .map(|(_, lines)| *lines);
    match excused {
        Some(_) if lines <= LONGEST => vec![format!(
            "{path}: is short enough now: take it off the list LONGER"
        )],
        Some(known) if lines > known => vec![format!(
            "{path}: has grown from {known} to {lines} lines before its tests"
        )],
        None if lines > LONGEST => vec![format!(
            "{path}: has {lines} lines before its tests, at most {LONGEST} are allowed"
        )],
        _ => Vec::new(),
    }
}

fn nameless(path: &str) -> Vec<String> {
    let parts = Path::new(path).with_extension("");
    let parts = parts
        .components()
        .filter_map(|part| part.as_os_str().to_str());
    let nameless = parts.filter(|part| NAMELESS.contains(part));
    nameless
        .map(|part| format!("{path}: `{part}` says nothing: name it after what it holds"))
        .collect()
}

/// A definition of a type: its name, and where it stands.
#[derive(Debug)]
struct Type {
    name: String,
    path: String,
    line: usize,
}

/// The structs, enums, traits and aliases that a file defines outside its tests. What a trait or an
/// `impl` calls its types is not theirs to choose.
fn types_of(path: &str, text: &str) -> Vec<Type> {
    if is_tests(path) {
        return Vec::new();
    }
    let tokens = tokens(&without_tests(&without_text(text)));
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| word.as_str());
    let mut types = Vec::new();
    // Of each open brace, whether it is that of a trait or an `impl`; and whether the next one will be.
    let (mut open, mut next) = (Vec::new(), false);
    for (at, (line, here)) in tokens.iter().enumerate() {
        let begins =
            at == 0 || matches!(word(at - 1), "{" | "}" | ";" | "]" | ")" | "pub" | "unsafe");
        match here.as_str() {
            "impl" | "trait" if begins => next = true,
            "{" => open.push(std::mem::take(&mut next)),
            "}" => drop(open.pop()),
            _ => {}
        }
        let defines = match here.as_str() {
            "struct" | "enum" | "trait" => true,
            "type" => begins && !open.last().is_some_and(|associated| *associated),
            _ => false,
        };
        if defines && is_word(word(at + 1)) {
            types.push(Type {
                name: word(at + 1).to_owned(),
                path: path.to_owned(),
                line: *line,
            });
        }
    }
    types
}

/// Names that several types have without an excuse, and excuses that nobody needs any more.
fn namesakes(types: &[Type], excused: &[Namesake]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for it in types {
        let place = format!("{}:{}", it.path, it.line);
        let places = places.entry(&it.name).or_default();
        places.push((module_of(&it.path), place));
    }
    let mut complaints = Vec::new();
    for (name, places) in &mut places {
        places.sort();
        let excuse = excused.iter().find(|excuse| excuse.name == *name);
        let known = excuse.map_or(&[][..], |excuse| excuse.modules);
        let modules = || places.iter().map(|(module, _)| module.as_str());
        if places.len() > 1 && !modules().eq(known.iter().copied()) {
            let all: Vec<_> = places.iter().map(|(_, place)| place.as_str()).collect();
            complaints.push(format!(
                "{}: `{name}` is the name of {} types ({}): one word for one thing, or a line in NAMESAKES",
                all[0],
                all.len(),
                all.join(", ")
            ));
        }
    }
    for Namesake { name, why, .. } in excused {
        if places.get(name).map_or(0, Vec::len) < 2 {
            complaints.push(format!(
                "`{name}` is no longer the name of several types: take it off the list NAMESAKES"
            ));
        }
        if why.is_empty() {
            complaints.push(format!(
                "`{name}` is on the list NAMESAKES without a reason"
            ));
        }
    }
    complaints
}

fn runtimes(lock: &str) -> Vec<String> {
    let names = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let found = names.filter(|name| RUNTIMES.contains(name));
    found
        .map(|name| format!("Cargo.lock: {name} is part of an async runtime"))
        .collect()
}

fn aborts(manifest: &str) -> Vec<String> {
    let setting = |line: &str| {
        line.split('#')
            .next()
            .unwrap_or("")
            .replace([' ', '\''], "")
            .replace('"', "")
    };
    let found = manifest
        .lines()
        .enumerate()
        .filter(|(_, line)| setting(line).contains("panic=abort"));
    found
        .map(|(number, _)| {
            format!(
                "Cargo.toml:{}: panic = \"abort\" would make a lost peer a lost program",
                number + 1
            )
        })
        .collect()
}

/// Links of one page whose target does not exist, or has no heading of that name. `page` gives the
/// text of a path, if it exists.
fn broken_links(path: &str, text: &str, page: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        for after in line.split("](").skip(1).filter(|_| !fenced) {
            let target = after.split([')', ' ']).next().unwrap_or("");
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(path).parent().unwrap_or(Path::new(""));
            let place = if file.is_empty() {
                PathBuf::from(path)
            } else {
                flat(&folder.join(file))
            };
            let Some(there) = page(&place) else {
                complaints.push(format!(
                    "{path}:{}: the link to {target} leads nowhere",
                    number + 1
                ));
                continue;
            };
            if !anchor.is_empty()
                && place.extension().is_some_and(|kind| kind == "md")
                && !headings(&there).contains(&anchor.to_owned())
            {
                complaints.push(format!(
                    "{path}:{}: {target} has no such heading",
                    number + 1
                ));
            }
        }
    }
    complaints
}

/// A path without `..`.
fn flat(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut flat, part| {
        match part {
            Component::ParentDir => drop(flat.pop()),
            Component::CurDir => {}
            part => flat.push(part),
        }
        flat
    })
}

/// The anchors that a page's headings get on code hosts.
fn headings(text: &str) -> Vec<String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

// ----------------------------------------------------------------------------------- reading Rust

/// `src/net/mod.rs` is `net`, `src/lib.rs` is the root.
fn module_of(path: &str) -> String {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" {
        String::new()
    } else {
        path.replace('/', "::")
    }
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or("")
}

/// Whether a module path is `of` or below it.
fn within(module: &str, of: &str) -> bool {
    module == of
        || module
            .strip_prefix(of)
            .is_some_and(|rest| rest.starts_with("::"))
}

fn floor_of(module: &str) -> Option<&'static Floor> {
    let fits = FLOORS.iter().filter(|floor| within(module, floor.module));
    fits.max_by_key(|floor| floor.module.len())
}

/// The names a manifest's dependencies have in code.
fn dependencies(manifest: &str) -> Vec<String> {
    let part = manifest.split("[dependencies]").nth(1).unwrap_or("");
    let part = part.split("\n[").next().unwrap_or("");
    let lines = part.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")))
        .collect()
}

/// The code with comments, strings and characters blanked out; lines stay where they are.
fn without_text(code: &str) -> String {
    let code: Vec<char> = code.chars().collect();
    let at = |place: usize| code.get(place).copied().unwrap_or('\0');
    let mut kept = String::new();
    let mut place = 0;
    let skip_to = |place: &mut usize, end: usize, kept: &mut String| {
        kept.extend(
            code[*place..end.min(code.len())]
                .iter()
                .filter(|c| **c == '\n'),
        );
        kept.push(' ');
        *place = end;
    };
    while place < code.len() {
        let here = at(place);
        let word_before = place > 0 && (at(place - 1).is_alphanumeric() || at(place - 1) == '_');
        if here == '/' && at(place + 1) == '/' {
            let mut end = place;
            while end < code.len() && code[end] != '\n' {
                end += 1;
            }
            skip_to(&mut place, end, &mut kept);
        } else if here == '/' && at(place + 1) == '*' {
            let (mut end, mut depth) = (place + 2, 1);
            while end < code.len() && depth > 0 {
                match (at(end), at(end + 1)) {
                    ('/', '*') => (end, depth) = (end + 2, depth + 1),
                    ('*', '/') => (end, depth) = (end + 2, depth - 1),
                    _ => end += 1,
                }
            }
            skip_to(&mut place, end, &mut kept);
        } else if here == 'r'
            && !word_before_raw(&code, place)
            && matches!(at(place + 1), '"' | '#')
            && raw_start(&code, place).is_some()
        {
            let (mut end, hashes) = raw_start(&code, place).unwrap();
            while end < code.len()
                && !(code[end] == '"' && (1..=hashes).all(|n| at(end + n) == '#'))
            {
                end += 1;
            }
            skip_to(&mut place, end + 1 + hashes, &mut kept);
        } else if here == '"' {
            let mut end = place + 1;
            while end < code.len() && code[end] != '"' {
                end += if code[end] == '\\' { 2 } else { 1 };
            }
            skip_to(&mut place, end + 1, &mut kept);
        } else if here == '\''
            && !(word_before && at(place - 1) != 'b')
            && (at(place + 1) == '\\' || at(place + 2) == '\'')
        {
            let mut end = place + if at(place + 1) == '\\' { 3 } else { 2 };
            while end < code.len() && code[end] != '\'' {
                end += 1;
            }
            skip_to(&mut place, end + 1, &mut kept);
        } else {
            kept.push(here);
            place += 1;
        }
    }
    kept
}

/// Whether the `r` at `place` ends a longer word; `br` before a raw string does not count as one.
fn word_before_raw(code: &[char], place: usize) -> bool {
    let word = |place: usize| code[place].is_alphanumeric() || code[place] == '_';
    match place {
        0 => false,
        1 => code[0] != 'b' && word(0),
        _ if code[place - 1] == 'b' => word(place - 2),
        _ => word(place - 1),
    }
}

/// Where a raw string's text begins and how many hashes close it.
fn raw_start(code: &[char], place: usize) -> Option<(usize, usize)> {
    let hashes = code[place + 1..].iter().take_while(|c| **c == '#').count();
    let quote = place + 1 + hashes;
    (code.get(quote) == Some(&'"')).then_some((quote + 1, hashes))
}

/// The code without its `#[cfg(test)]` items; lines stay where they are.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..start]);
        let item = &rest[start..];
        let mut depth = 0_usize;
        let mut end = item.len();
        for (at, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(c, '}' | ';') {
                end = at + 1;
                break;
            }
        }
        kept.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    kept + rest
}

/// Words, `::` and single signs, each with its line.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut signs = line.chars().peekable();
        while let Some(sign) = signs.next() {
            let mut token = String::from(sign);
            if sign.is_alphanumeric() || sign == '_' {
                while let Some(more) = signs.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    token.push(more);
                }
            } else if sign == ':' && signs.next_if_eq(&':').is_some() {
                token.push(':');
            } else if sign.is_whitespace() {
                continue;
            }
            tokens.push((number + 1, token));
        }
    }
    tokens
}

/// Every path in the code that begins at this crate, at std or at a package, as `crate::…`, `std::…`,
/// groups taken apart, `self` and `super` resolved.
fn paths(tokens: &[(usize, String)], module: &str, packages: &[String]) -> Vec<(usize, String)> {
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| word.as_str());
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let first = word(at);
        let own = matches!(first, "crate" | "ropewalk" | "super" | "self");
        let theirs = matches!(first, "std" | "core" | "alloc")
            || packages.iter().any(|package| package == first);
        let begins = (own || theirs)
            && word(at + 1) == "::"
            && !(at > 0 && word(at - 1) == "::" && at > 1 && is_word(word(at - 2)));
        if !begins {
            at += 1;
            continue;
        }
        let mut prefix: Vec<String> = match first {
            "super" | "self" => std::iter::once("crate")
                .chain(module.split("::").filter(|part| !part.is_empty()))
                .map(str::to_owned)
                .collect(),
            "ropewalk" => vec!["crate".to_owned()],
            other => vec![other.to_owned()],
        };
        if first == "super" && prefix.len() > 1 {
            prefix.pop();
        }
        at = follow(tokens, at + 1, prefix, &mut found).max(at + 1);
    }
    found
}

fn is_word(text: &str) -> bool {
    text.chars()
        .next()
        .is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Follows a path whose next token is at `at` (a `::` if it goes on); returns where it ends.
fn follow(
    tokens: &[(usize, String)],
    mut at: usize,
    mut path: Vec<String>,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| word.as_str());
    let line = tokens[at.min(tokens.len()) - 1].0;
    while word(at) == "::" {
        match word(at + 1) {
            "{" => {
                at += 2;
                while at < tokens.len() && word(at) != "}" {
                    if is_word(word(at)) {
                        let mut inner = path.clone();
                        if word(at) != "self" {
                            inner.push(word(at).to_owned());
                        }
                        at = follow(tokens, at + 1, inner, found);
                        if word(at) == "as" {
                            at += 2;
                        }
                    } else {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "super" if path.len() > 1 => {
                path.pop();
                at += 2;
            }
            next if is_word(next) => {
                path.push(next.to_owned());
                at += 2;
            }
            _ => break,
        }
    }
    found.push((line, path.join("::")));
    at
}

// --------------------------------------------------------------------- the scanner can see and fail

#[cfg(test)]
mod scanner {
    use super::*;

    fn found(path: &str, code: &str) -> Vec<String> {
        let packages = [
            "rand",
            "fastrand",
            "crossbeam_channel",
            "thiserror",
            "sha1_smol",
            "argh",
            "rustix",
        ];
        let mut all = imports(path, code, &packages.map(str::to_owned));
        all.extend(contents(path, code));
        all.extend(bounds(path, code));
        all
    }

    #[track_caller]
    fn refused(path: &str, code: &str, line: usize) {
        let complaints = found(path, code);
        let place = format!("{path}:{line}: ");
        assert!(
            complaints
                .iter()
                .any(|complaint| complaint.starts_with(&place)),
            "{complaints:?}"
        );
    }

    #[track_caller]
    fn accepted(path: &str, code: &str) {
        assert_eq!(found(path, code), Vec::<String>::new());
    }

    #[test]
    fn the_ground_imports_nobody() {
        refused(
            "src/protocol/peer/mod.rs",
            "\nuse crate::swarm::event::Event;",
            2,
        );
        refused(
            "src/protocol/bencode.rs",
            "fn f() -> crate::storage::slot::BlockSlot {}",
            1,
        );
        refused("src/protocol/bencode.rs", "use rustix::fs;", 1);
        refused("src/protocol/bencode.rs", "use sha1_smol::Sha1;", 1);
        accepted(
            "src/protocol/digest.rs",
            "use sha1_smol::Sha1; use super::InfoHash;",
        );
        accepted(
            "src/protocol/peer/mod.rs",
            "use crate::protocol::{Block, geometry}; use super::Geometry;",
        );
    }

    #[test]
    fn groups_supers_and_paths_inside_code_are_seen() {
        refused(
            "src/net/dial.rs",
            "use crate::{\n    protocol::Block,\n    swarm::{\n        event::PeerKey,\n        picker::Picker,\n    },\n};",
            5,
        );
        refused("src/net/dial.rs", "use super::super::announce::http;", 1);
        refused("src/net/mod.rs", "use super::announce;", 1);
        refused(
            "src/storage/check.rs",
            "fn f() { let x = crate::net::Command::Discard(b); }",
            1,
        );
        refused("src/storage/check.rs", "use crate::swarm;", 1);
        refused(
            "src/announce/http.rs",
            "use crate::storage::{self, slot};",
            1,
        );
        accepted(
            "src/net/dial.rs",
            "use crate::{protocol::Block, swarm::event::{PeerKey, Farewell as Why}, storage::slot::BlockSlot}; use super::Command;",
        );
        accepted(
            "src/storage/check.rs",
            "use self::inner::Thing; use super::layout;",
        );
    }

    #[test]
    fn assemblies_neither_print_nor_know_the_roof() {
        refused("src/client/mod.rs", "use crate::cli::progress;", 1);
        refused("src/client/mod.rs", "fn f() {\n    println!(\"x\");\n}", 2);
        refused("src/lab/mod.rs", "use argh::FromArgs;", 1);
        refused("src/client/mod.rs", "use crate::lab::Report;", 1);
        accepted(
            "src/cli/get.rs",
            "use argh::FromArgs; use crate::client::Client; fn f() { println!(\"x\") }",
        );
        accepted("src/lab/mod.rs", "use crate::client::Client;");
    }

    #[test]
    fn a_module_without_a_floor_is_refused() {
        let complaints = imports("src/attic/mod.rs", "fn f() {}", &[]);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }

    #[test]
    fn pure_floors_have_no_clock_no_file_no_thread_and_no_dice() {
        for code in [
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "use std::fs;",
            "use std::net::TcpStream;",
            "fn f() { std::thread::sleep(x) }",
            "use std::io::Read;",
            "use std::sync::mpsc;",
            "use crossbeam_channel::Sender;",
            "use rand::Rng;",
            "fn f() { fastrand::u8(..) }",
            "fn f() { let dice = Rng::new(); }",
        ] {
            refused("src/swarm/picker.rs", code, 1);
        }
        accepted(
            "src/swarm/picker.rs",
            "use std::time::Duration; use std::net::SocketAddr; fn f(dice: &mut fastrand::Rng) {}",
        );
        refused(
            "src/protocol/mod.rs",
            "fn f(dice: &mut fastrand::Rng) {}",
            1,
        );
    }

    #[test]
    fn a_variant_that_is_called_like_a_file_is_none() {
        assert_eq!(
            contents("src/swarm/a.rs", "fn f() -> Owner { Owner::File }\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            contents("src/swarm/a.rs", "fn f() { std::time::Instant::now(); }\n").len(),
            1
        );
    }

    #[test]
    fn locks_async_and_stray_unsafe_are_refused() {
        refused("src/cli/mod.rs", "use std::sync::Mutex;", 1);
        refused("src/net/mod.rs", "static X: RwLock<u8>;", 1);
        refused("src/net/mod.rs", "async fn f() {}", 1);
        refused("src/net/mod.rs", "\n\nfn f() { unsafe { g() } }", 3);
        refused("src/net/mod.rs", "#![allow(unsafe_code)]", 1);
        accepted(
            "src/storage/window.rs",
            "#![allow(unsafe_code)] fn f() { unsafe { g() } }",
        );
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        accepted(
            "src/swarm/mod.rs",
            "//! [`crate::storage`] has no Mutex\n/* Instant /* File */ */\nconst X: &str = \"std::fs::File\";\n\
             const Y: &str = r#\"a \" Mutex\"#; const Q: char = '\"'; fn f<'a>(x: &'a str) {}\n\
             #[cfg(test)]\nmod tests {\n    use std::fs::File;\n    fn f() { if x { Mutex } }\n}\n",
        );
        refused(
            "src/swarm/mod.rs",
            "const Q: char = '\"';\nuse std::fs; // \"",
            2,
        );
        refused(
            "src/swarm/mod.rs",
            "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::fs;",
            3,
        );
        refused(
            "src/swarm/mod.rs",
            "#[cfg(test)]\nuse std::fs;\nuse std::thread;",
            3,
        );
    }

    #[test]
    fn a_channel_without_its_bound_is_refused() {
        refused(
            "src/net/mod.rs",
            "fn f() {\n    let (a, b) = bounded(3);\n}",
            2,
        );
        refused(
            "src/net/mod.rs",
            "// Bound: too far away\n\n\n\nlet (a, b) = unbounded();",
            5,
        );
        refused(
            "src/net/mod.rs",
            "let (a, b) = crossbeam_channel::bounded::<u8>(3);",
            1,
        );
        accepted(
            "src/net/mod.rs",
            "// Bound: one answer for each question.\nlet (a, b) = bounded(1);",
        );
    }

    #[test]
    fn empty_long_and_nameless_files_are_refused() {
        assert_eq!(lengths("src/net/a.rs", "//! To be written.\n").len(), 1);
        assert_eq!(lengths("src/net/a.rs", "fn f() {}\n"), Vec::<String>::new());
        assert_eq!(
            lengths("src/net/a.rs", &"const A: u8 = 1;\n".repeat(LONGEST)),
            Vec::<String>::new()
        );
        assert_eq!(
            lengths("src/net/a.rs", &"const A: u8 = 1;\n".repeat(LONGEST + 1)).len(),
            1
        );
        let tested = format!(
            "fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "const A: u8 = 1;\n".repeat(LONGEST)
        );
        assert_eq!(lengths("src/net/a.rs", &tested), Vec::<String>::new());
        assert_eq!(nameless("src/net/utils.rs").len(), 1);
        assert_eq!(nameless("tests/common/mod.rs").len(), 1);
        assert_eq!(nameless("src/net/dial.rs"), Vec::<String>::new());
    }

    #[test]
    fn types_are_found_where_they_are_defined() {
        let code = "pub struct A;\n#[derive(Debug)]\nenum B {}\npub(super) type C<T> = Vec<T>;\ntrait D {\n    type Out;\n}\n\
                    impl D for A {\n    type Out = B;\n}\nfn f(d: impl D) {\n    struct E;\n}\n// struct F\n\
                    mod inner {\n    type G = u8;\n}\n#[cfg(test)]\nmod tests {\n    struct H;\n}\n";
        let types = types_of("src/net/a.rs", code);
        let found: Vec<_> = types.iter().map(|it| (it.name.as_str(), it.line)).collect();
        let wanted = [("A", 1), ("B", 3), ("C", 4), ("D", 5), ("E", 12), ("G", 16)];
        assert_eq!(found, wanted);
        assert!(types_of("src/net/tests.rs", code).is_empty());
    }

    #[test]
    fn a_name_of_two_types_and_an_excuse_too_many_are_found() {
        let types = |files: &[&str]| -> Vec<Type> {
            files
                .iter()
                .flat_map(|file| types_of(&format!("src/{file}.rs"), "struct Line;"))
                .collect()
        };
        let excused = [Namesake {
            name: "Line",
            modules: &["net", "tracker"],
            why: "a test",
        }];
        assert_eq!(namesakes(&types(&["net"]), &[]), Vec::<String>::new());
        let complaints = namesakes(&types(&["tracker", "net"]), &[]);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("src/net.rs:1: "));
        assert_eq!(
            namesakes(&types(&["tracker", "net"]), &excused),
            Vec::<String>::new()
        );
        for files in [
            &["net", "tracker", "lab"][..],
            &["net", "lab"],
            &["net"],
            &[],
        ] {
            let complaints = namesakes(&types(files), &excused);
            assert_eq!(complaints.len(), 1, "{files:?}: {complaints:?}");
        }
    }

    #[test]
    fn runtimes_and_aborts_are_found() {
        assert_eq!(
            runtimes("[[package]]\nname = \"tokio\"\n[[package]]\nname = \"tokio-like\"\n").len(),
            1
        );
        assert_eq!(
            aborts("[profile.release]\npanic = 'abort'\n# panic = \"abort\"\n").len(),
            1
        );
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let page = |path: &Path| match path.to_str() {
            Some("docs/tour.md") => Some("# The tour\n## Stop 1: bytes, and more\n".to_owned()),
            Some("src/lib.rs") => Some(String::new()),
            _ => None,
        };
        let text = "[a](tour.md) [b](../src/lib.rs) [c](tour.md#stop-1-bytes-and-more) [d](https://x.org)\n\
                    [e](gone.md)\n[f](tour.md#stop-2)\n```\n[g](code.md)\n```\n";
        let complaints = broken_links("docs/beps.md", text, page);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(
            complaints[0].starts_with("docs/beps.md:2: ")
                && complaints[1].starts_with("docs/beps.md:3: ")
        );
    }

    #[test]
    fn dependencies_are_read_from_the_manifest() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\ncrossbeam-channel = \"0.5\"\nureq = { version = \"3\" }\n\n[dev-dependencies]\ntempfile = \"3\"\n";
        assert_eq!(dependencies(manifest), ["crossbeam_channel", "ureq"]);
    }
}
