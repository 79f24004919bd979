//! The report as SARIF 2.1.0 (OASIS), for code scanning: a rule for each thing that can be wrong, a result for each
//! finding. Pure.
//!
//! A start has no line in a file. The place of a result is the first word of CMD that looks like a file, as code
//! scanning wants one.

use serde_json::{Value, json};

use super::finding::CODES;
use super::report::{Report, Verdict};

/// The whole document.
#[must_use]
pub fn render(report: &Report) -> String {
    let rules: Vec<Value> = CODES
        .iter()
        .map(|(code, about)| {
            json!({
                "id": code,
                "shortDescription": { "text": about },
                "defaultConfiguration": { "level": "error" },
                "helpUri": "https://github.com/greenroom-proxy/greenroom/blob/main/docs/audit.md",
            })
        })
        .collect();
    let place = json!([{
        "physicalLocation": {
            "artifactLocation": { "uri": place(&report.command) },
            "region": { "startLine": 1 },
        },
    }]);
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|said| {
            json!({
                "ruleId": said.code,
                "level": "error",
                "message": { "text": format!("The server {}. What to do: {}.", said.sentence, said.advice) },
                "locations": place,
                "properties": { "finding": said.finding },
            })
        })
        .collect();
    let (measured, told) = match &report.verdict {
        Verdict::NotMeasured(why) => (false, json!([{ "level": "error", "message": { "text": why } }])),
        Verdict::Sound | Verdict::Race => {
            let told = |why: &String| json!({ "level": "error", "message": { "text": why } });
            (true, report.not_done.iter().map(told).collect())
        }
    };
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "greenroom audit",
                "semanticVersion": report.version,
                "informationUri": "https://github.com/greenroom-proxy/greenroom",
                "rules": rules,
            } },
            "invocations": [{
                "executionSuccessful": measured,
                "commandLine": report.command.join(" "),
                "endTimeUtc": report.machine.date,
                "toolExecutionNotifications": told,
            }],
            "results": results,
        }],
    });
    format!("{document:#}\n")
}

/// The first word, behind the program, that names a file of the project; else the program.
fn place(command: &[String]) -> String {
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

    #[test]
    fn a_result_stands_at_the_first_file_of_the_command() {
        let at = |command: &str| place(&command.split(' ').map(String::from).collect::<Vec<_>>());
        assert_eq!(at("node src/server.js --port {port}"), "src/server.js");
        assert_eq!(at("uvicorn app:app"), "uvicorn");
        assert_eq!(at("/usr/bin/server --host 0.0.0.0:{port}"), "server");
        assert_eq!(place(&[]), "CMD");
    }
}
