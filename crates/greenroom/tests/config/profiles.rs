//! The profile layer: over the file, below variables and flags; it changes what is there and nothing else.

use std::time::Duration;

use greenroom::config::{Flags, Hold, Loaded, Purpose, Secrets, load_bytes};

use super::layers;

const FILE: &str = r#"
grace = "20s"

[backend.app]
phases = ["init", "database"]

[backend.app.process]
command = ["node", "server.js"]
env = { A = "of the file", B = "of the file" }

[backend.app.check.cache]
probe = "redis"
address = "127.0.0.1:6379"
critical = false
weight = 5

[[route]]
name = "chat"

[[route]]
path = "/other"

[profile.production]
grace = "30s"

[profile.production.backend.app.process]
env = { B = "of the profile" }

[profile.production.backend.app.phase.database]
timeout = "2m"

[profile.production.backend.app.check.cache]
critical = true
password = "of the profile"

[[profile.production.route]]
name = "chat"
hold = "refuse"
require = ["cache"]

[profile.development]
grace = "1s"
"#;

fn with(variables: &[(&str, &str)], profile: Option<&str>, grace: Option<&str>) -> Loaded {
    let flags = Flags {
        profile: profile.map(Into::into),
        grace: grace.map(Into::into),
        ..Flags::default()
    };
    load_bytes("a.toml", FILE.into(), &layers(variables, flags, Purpose::Run))
        .unwrap_or_else(|invalid| panic!("{}", invalid.render(false)))
}

fn grace(loaded: &Loaded) -> String {
    let found = loaded
        .effective
        .iter()
        .find(|effective| effective.key == "grace")
        .unwrap();
    format!("{} ({})", found.value, found.origin)
}

#[test]
fn a_profile_wins_over_the_file_and_variables_and_flags_over_it() {
    let variable = [("GREENROOM__GRACE", "40s")];
    assert_eq!(grace(&with(&[], None, None)), "20s (a.toml:2:9)");
    assert_eq!(
        grace(&with(&[], Some("production"), None)),
        "30s (profile production, a.toml:24:9)"
    );
    assert_eq!(
        grace(&with(&variable, Some("production"), None)),
        "40s (environment GREENROOM__GRACE)"
    );
    assert_eq!(
        grace(&with(&variable, Some("production"), Some("50s"))),
        "50s (--grace)"
    );
}

#[test]
fn the_variable_chooses_a_profile_and_the_flag_wins_over_it() {
    let variable = [("GREENROOM_PROFILE", "production")];
    let chosen = |loaded: &Loaded| loaded.config.profile.clone();
    assert_eq!(chosen(&with(&variable, None, None)).as_deref(), Some("production"));
    assert_eq!(
        chosen(&with(&variable, Some("development"), None)).as_deref(),
        Some("development")
    );
    assert_eq!(chosen(&with(&[("GREENROOM_PROFILE", "")], None, None)), None);
    assert_eq!(chosen(&with(&[], None, None)), None);
}

#[test]
fn a_profile_changes_what_is_there_key_by_key() {
    let config = with(&[], Some("production"), None).config;
    let app = &config.backends[0];
    assert_eq!(app.phases[1].timeout, Some(Duration::from_secs(120)));
    let cache = &app.checks[0];
    assert!(cache.rule.critical);
    assert_eq!(
        cache.rule.weight, 1,
        "what the file says of it has no effect now, and is no error"
    );
    assert_eq!(
        app.process.as_ref().unwrap().env,
        [("A", "of the file"), ("B", "of the profile")].map(|(name, value)| (name.into(), value.into()))
    );
    let route = |path: &str| config.routes.iter().find(|route| route.path == path).unwrap();
    assert_eq!((route("/").hold, route("/").need), (Hold::Refuse, 1));
    assert_eq!((route("/other").hold, route("/other").need), (Hold::Auto, 0));
    let before = with(&[], None, None).config;
    assert_eq!(before.backends[0].phases[1].timeout, None);
    assert!(!before.backends[0].checks[0].rule.critical);
}

#[test]
fn a_profile_that_the_file_does_not_have_changes_nothing() {
    let (without, with_it) = (with(&[], None, None).config, with(&[], Some("staging"), None).config);
    assert_eq!(with_it.profile.as_deref(), Some("staging"));
    let profile = None;
    assert_eq!(greenroom::config::Config { profile, ..with_it }, without);
}

#[test]
fn explain_says_what_is_of_the_profile_and_no_secret_of_it() {
    let loaded = with(&[], Some("production"), None);
    let text = loaded.explain(Secrets::Hidden);
    assert!(!text.contains("of the profile"), "{text}");
    assert!(!greenroom::config::to_toml(&loaded.config, Secrets::Hidden).contains("of the profile"));
    assert!(loaded.explain(Secrets::Shown).contains("of the profile"));
    insta::assert_snapshot!("explained_profile", text);
}

/// All that can be wrong with asking for one, and with a variable that would set a key of one.
#[test]
fn another_name_is_told_with_the_one_that_is_meant() {
    let text = |variables: &[(&str, &str)], profile: Option<&str>| {
        let flags = Flags {
            profile: profile.map(Into::into),
            ..Flags::default()
        };
        load_bytes("a.toml", FILE.into(), &layers(variables, flags, Purpose::Run))
            .unwrap_err()
            .render(false)
    };
    let all = [
        text(&[], Some("prodution")),
        text(&[("GREENROOM_PROFILE", "prod")], None),
        text(&[("GREENROOM_PROFILE", "green")], None),
        text(&[("GREENROOM__PROFILE", "production")], None),
        text(&[("GREENROOM__PROFILE__PRODUCTION__GRACE", "1s")], None),
    ];
    insta::assert_snapshot!("profiles_that_are_not_there", all.join("---\n"));
}

#[test]
fn the_only_route_needs_no_name_and_a_variable_reaches_a_phase_without_a_table() {
    let file = "[backend.app]\naddress = \"h:1\"\n[[profile.staging.route]]\nhold_timeout = \"5s\"\n";
    let flags = Flags {
        profile: Some("staging".into()),
        ..Flags::default()
    };
    let variables = [
        ("GREENROOM__BACKEND__APP__PHASE__DATABASE__TIMEOUT", "7s"),
        ("GREENROOM__STATE_DIR", "/var/lib/x"),
        ("GREENROOM__ADMIN__ADDRESS", "127.0.0.1:9090"),
        ("GREENROOM__ADMIN__TOKEN", "0123456789abcdef"),
    ];
    let loaded = load_bytes("a.toml", file.into(), &layers(&variables, flags, Purpose::Serve)).unwrap();
    let config = &loaded.config;
    assert_eq!(config.routes[0].hold_timeout, Duration::from_secs(5));
    let phase = config.backends[0]
        .phases
        .iter()
        .find(|phase| &*phase.name == "database");
    assert_eq!(phase.unwrap().timeout, Some(Duration::from_secs(7)));
    assert_eq!(config.state_dir.as_deref(), Some(std::path::Path::new("/var/lib/x")));
    assert!(config.admin.token.is_some());
    assert!(!loaded.explain(Secrets::Hidden).contains("0123456789abcdef"));
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn a_check_wins_over_a_phase_of_its_name_and_explain_says_so() {
    let file = "[backend.app]\naddress = \"h:1\"\n[backend.app.check.cache]\nprobe = \"tcp\"\n\
        [[route]]\nrequire = [\"cache\", \"init\"]\n[[route]]\npath = \"/a\"\nrequire = []\n";
    let loaded = load_bytes("a.toml", file.into(), &layers(&[], Flags::default(), Purpose::Check)).unwrap();
    let values: Vec<_> = loaded
        .effective
        .iter()
        .filter(|effective| effective.key.ends_with(".require"))
        .map(|effective| effective.value.as_str())
        .collect();
    assert_eq!(
        values,
        [
            "cache (the check, not the phase of this name), init (phase)",
            "ready alone"
        ]
    );
}

/// Every different wish of the routes is one need of the backend; one too many is told.
#[test]
fn needs_are_gathered_each_once_and_bounded() {
    use greenroom_core::limits::NEEDS_MAX;
    let phases: Vec<String> = (0..NEEDS_MAX).map(|index| format!("\"p{index}\"")).collect();
    let file = |count: usize| {
        let begin = format!("[backend.app]\naddress = \"h:1\"\nphases = [{}]\n", phases.join(", "));
        let route = |n: usize| format!("[[route]]\npath = \"/{n}\"\nrequire = [\"p{n}\", \"p{n}\"]\n");
        let same = "[[route]]\npath = \"/same\"\nrequire = [\"p0\"]\n[[route]]\npath = \"/none\"\n";
        begin + &(0..count).map(route).collect::<String>() + same
    };
    let load = |count| {
        load_bytes(
            "a.toml",
            file(count).into(),
            &layers(&[], Flags::default(), Purpose::Check),
        )
    };
    let config = load(NEEDS_MAX - 1).unwrap().config;
    assert_eq!(config.backends[0].needs.len(), NEEDS_MAX);
    let need = |path: &str| config.routes.iter().find(|route| route.path == path).unwrap().need;
    assert_eq!((need("/same"), need("/none")), (need("/0"), 0));
    let text = load(NEEDS_MAX).unwrap_err().render(false);
    assert!(text.contains("need more than 64 different things"), "{text}");
}
