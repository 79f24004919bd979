//! The commands around the configuration: `check`, `schema`, `completions`, `man`; and
//! how what is wrong with it is shown.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use greenroom::admin::platform::too_little_time;
use greenroom::config::{Invalid, Layers, Loaded, Secrets, load, reference, schema, summary, to_toml};

use crate::args::{Check, Cli, USAGE};

/// Exit code of `check` for a configuration that is wrong.
const WRONG: u8 = 1;

/// The configuration, or the exit code after all that is wrong was said.
pub(crate) fn loaded(layers: &Layers<'_>) -> Result<Loaded, u8> {
    load(layers).map_err(|invalid| {
        complain(&invalid);
        USAGE
    })
}

fn complain(invalid: &Invalid) {
    // Whoever asked for no colours (no-color.org) gets none, be it a terminal.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = !plain && io::stderr().is_terminal();
    let _ = io::stderr().write_all(invalid.render(colours).as_bytes());
}

/// `greenroom check`.
pub(crate) fn check(check: &Check) -> u8 {
    let loaded = match load(&check.layers()) {
        Ok(loaded) => loaded,
        Err(invalid) => {
            complain(&invalid);
            return WRONG;
        }
    };
    for note in loaded.notes.iter().chain(&too_little_time(&loaded.config)) {
        let _ = writeln!(io::stderr(), "note: {note}");
    }
    let secrets = if check.show_secrets {
        Secrets::Shown
    } else {
        Secrets::Hidden
    };
    print(&if check.toml {
        to_toml(&loaded.config, secrets)
    } else if check.explain {
        format!("{}\n\n{}", summary(&loaded.config), loaded.explain(secrets))
    } else {
        format!("{}\n", summary(&loaded.config))
    })
}

/// `greenroom schema`.
pub(crate) fn print_schema() -> u8 {
    print(&schema())
}

/// `greenroom reference`.
pub(crate) fn print_reference() -> u8 {
    print(&reference())
}

/// `greenroom completions`.
pub(crate) fn completions(shell: Shell) -> u8 {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "greenroom", &mut out);
    print(&String::from_utf8_lossy(&out))
}

/// `greenroom man`.
pub(crate) fn man(folder: &Path) -> u8 {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    match written {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: cannot write manual pages into {}: {error}",
                folder.display()
            );
            WRONG
        }
    }
}

/// Prints all of it. A reader that has seen enough is no fault.
pub(crate) fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
            WRONG
        }
        Ok(()) | Err(_) => 0,
    }
}
