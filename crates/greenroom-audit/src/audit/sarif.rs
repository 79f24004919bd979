//! The report as SARIF 2.1.0 (OASIS), for code scanning: a rule for each thing that can be wrong, a result for each
//! finding. Pure.
//!
//! A start has no line in a file. The place of a result is the first word of CMD that looks like a file of the project, as
//! code scanning wants one; `module:app`, as Python's servers take it, is the file of that module.

use serde_json::{Value, json};

use super::finding::CODES;
use super::launcher::Way;
use super::report::{Report, Said, Verdict};
use super::text::plain;
use super::words;

/// The whole document.
#[must_use]
pub fn render(report: &Report) -> String {
    let place = json!([{
        "physicalLocation": { "artifactLocation": { "uri": place(&report.command) } },
    }]);
    let level = |way| match words::counts_findings(report, way) {
        true => "error",
        false => "warning", // it is there, and no condition counts it
    };
    let result = |said: &Said, subject: &str, level: &str| {
        json!({
            "ruleId": said.code,
            "level": level,
            "message": { "text": plain(&format!("{subject} {}. What to do: {}.", said.sentence, said.advice)) },
            "locations": place,
            "properties": { "finding": said.finding },
        })
    };
    let by_itself = report.findings.iter();
    let by_itself = by_itself.map(|said| result(said, "The server", level(Way::Plain)));
    let behind = report.greenroom_findings.iter();
    let behind = behind.map(|said| result(said, "Behind greenroom, the server", level(Way::Greenroom)));
    let results: Vec<Value> = by_itself.chain(behind).collect();
    let not_measured = match &report.verdict {
        Verdict::NotMeasured(why) => Some(plain(why)),
        Verdict::Sound | Verdict::Race => None,
    };
    let told: Vec<Value> = not_measured
        .into_iter()
        .chain(words::incomplete(report))
        .map(|text| json!({ "level": "error", "message": { "text": text } }))
        .collect();
    let restarts: Vec<String> = report
        .restarts
        .iter()
        .map(|restart| format!("{}: {}", words::restart_title(restart), plain(&restart.sentence())))
        .collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "greenroom audit",
                "semanticVersion": report.version,
                "informationUri": "https://github.com/greenroom-proxy/greenroom",
                "rules": rules(),
            } },
            "invocations": [{
                "executionSuccessful": told.is_empty(),
                "exitCode": report.exit_code(),
                "commandLine": report.command.join(" "),
                "startTimeUtc": report.machine.date,
                "endTimeUtc": report.ended(),
                "toolExecutionNotifications": told,
            }],
            "results": results,
            "properties": { "restarts": restarts, "waits": report.waits, "settings": report.settings },
        }],
    });
    format!("{document:#}\n")
}

/// One for each thing that can be wrong.
fn rules() -> Vec<Value> {
    CODES
        .iter()
        .map(|(code, about)| {
            json!({
                "id": code,
                "shortDescription": { "text": about },
                "defaultConfiguration": { "level": "error" },
                "helpUri": "https://github.com/greenroom-proxy/greenroom/blob/main/docs/audit.md",
            })
        })
        .collect()
}

/// The first word, behind the program, that names a file of the project, or a Python module; else the program.
fn place(command: &[String]) -> String {
    let module = |word: &String| {
        let (module, attribute) = word.split_once(':')?;
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        (is_name(attribute) && module.split('.').all(is_name)).then(|| format!("{}.py", module.replace('.', "/")))
    };
    if let Some(file) = command.iter().skip(1).find_map(module) {
        return file;
    }
    let is_file = |word: &&String| {
        word.contains('.') && !word.starts_with(['-', '/', '.']) && !word.contains(['{', ':', '=', ' '])
    };
    let found = command.iter().skip(1).find(is_file).or(command.first());
    let name = found.map_or("CMD", |word| {
        word.rsplit('/')
            .next()
            .filter(|_| word.starts_with('/'))
            .unwrap_or(word)
    });
    // A reference to a URI has neither blanks nor other odd characters.
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "/._-~".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::sample::{early, report};

    #[test]
    fn both_sides_the_times_and_an_interruption_are_in_it() {
        let mut report = report(&[early(0)], Some(&[early(0)]));
        let of = |report: &Report| serde_json::from_str::<Value>(&render(report)).unwrap()["runs"][0].clone();
        let run = of(&report);
        let invocation = &run["invocations"][0];
        assert_eq!(invocation["startTimeUtc"], "2026-11-26T12:14:59Z");
        assert_eq!(invocation["endTimeUtc"], "2026-11-26T12:15:11Z");
        assert_eq!(
            (&invocation["executionSuccessful"], &invocation["exitCode"]),
            (&json!(true), &json!(1))
        );
        let levels: Vec<_> = run["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["level"].clone())
            .collect();
        assert_eq!(levels, ["error", "error"], "{run:#}");
        assert!(!run.to_string().contains('`'), "{run:#}");
        report.conditions.clear();
        assert_eq!(
            of(&report)["results"][0]["level"],
            "warning",
            "what is not counted is no error"
        );
        report.interrupted = true;
        assert_eq!(of(&report)["invocations"][0]["executionSuccessful"], false);
    }

    #[test]
    fn a_result_stands_at_the_first_file_of_the_command() {
        let at = |command: &str| place(&command.split(' ').map(String::from).collect::<Vec<_>>());
        assert_eq!(at("node src/server.js --port {port}"), "src/server.js");
        assert_eq!(at("v/bin/uvicorn --port {port} chat.app:app"), "chat/app.py");
        assert_eq!(at("uvicorn --factory"), "uvicorn");
        assert_eq!(at("/usr/bin/server --host 0.0.0.0:{port}"), "server");
        assert_eq!(place(&[]), "CMD");
    }
}
