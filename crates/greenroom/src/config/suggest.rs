//! What somebody may have meant by a word that is unknown here.

/// Words of other programs, and the key that is meant.
const OTHERS: &[(&str, &str)] = &[
    ("args", "command"),
    ("bind", "address"),
    ("cmd", "command"),
    ("database_name", "database"),
    ("db", "database"),
    ("dbname", "database"),
    ("depends_on", "require"),
    ("dev", "development"),
    ("directory", "cwd"),
    ("domain", "host"),
    ("environment", "env"),
    ("every", "interval"),
    ("exec", "command"),
    ("failurethreshold", "fall"),
    ("health", "ready"),
    ("healthcheck", "ready"),
    ("healthy_threshold", "rise"),
    ("hostname", "host"),
    ("hosts", "host"),
    ("json_pointer", "pointer"),
    ("kind", "probe"),
    ("listen", "address"),
    ("live", "production"),
    ("location", "path"),
    ("log", "log_format"),
    ("match", "line"),
    ("max_body_size", "body_max"),
    ("metrics", "admin"),
    ("needs", "require"),
    ("on_degraded", "degraded"),
    ("optional", "critical"),
    ("pass", "password"),
    ("pattern", "line"),
    ("period", "interval"),
    ("periodseconds", "interval"),
    ("pg", "postgres"),
    ("port", "address"),
    ("postgresql", "postgres"),
    ("prefix", "path"),
    ("prod", "production"),
    ("readiness", "ready"),
    ("regex", "line"),
    ("required", "critical"),
    ("retries", "fall"),
    ("server", "backend"),
    ("service", "backend"),
    ("shell", "exec"),
    ("shutdown_timeout", "grace"),
    ("stage", "staging"),
    ("startup", "phase"),
    ("strip_prefix", "rewrite"),
    ("successthreshold", "rise"),
    ("target", "backend"),
    ("test", "staging"),
    ("threshold", "fall"),
    ("timeout", "hold_timeout"),
    ("timeoutseconds", "timeout"),
    ("type", "probe"),
    ("unhealthy_threshold", "fall"),
    ("upstream", "backend"), // tidy: allow-word the word of other programs, which is translated here
    ("url", "address"),
    ("username", "user"),
    ("workdir", "cwd"),
    ("working_dir", "cwd"),
    ("ws", "websocket"),
];

/// The one of `known` that was most likely meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let known: Vec<&str> = known.into_iter().collect();
    let other = OTHERS.iter().find(|(other, _)| *other == word).map(|(_, key)| *key);
    // One slip in three letters; a longer way is a guess.
    let most = |known: &str| (known.chars().count().max(word.chars().count()) / 3).max(1);
    known
        .iter()
        .map(|known| {
            (
                strsim::osa_distance(&word, &known.to_lowercase().replace('-', "_")),
                *known,
            )
        })
        .filter(|(distance, known)| *distance <= most(known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
        .or_else(|| other.and_then(|other| known.into_iter().find(|known| *known == other)))
}

/// The words as a list for a sentence: `a, b or c`.
pub(super) fn listed<'a>(and: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        None => "none".into(),
        Some((last, [])) => (*last).into(),
        Some((last, rest)) => format!("{} {and} {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_guess_is_not_made() {
        let known = ["address", "ready", "held_max", "hold_timeout"];
        for (word, expected) in [
            ("adress", Some("address")),
            ("Ready", Some("ready")),
            ("held-max", Some("held_max")),
            ("hold_timout", Some("hold_timeout")),
            ("raedy", Some("ready")),
            ("port", Some("address")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), expected, "{word}");
        }
        assert_eq!(
            closest("port", ["ready"]),
            None,
            "a translation into what is unknown here"
        );
    }

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(listed("or", []), "none");
        assert_eq!(listed("or", ["a"]), "a");
        assert_eq!(listed("or", ["a", "b", "c"]), "a, b or c");
    }
}
