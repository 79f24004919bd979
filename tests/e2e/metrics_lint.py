"""Reads one scrape in both formats with a parser that is not greenroom's, and says what is wrong with it.

metrics_lint.py TEXT OPENMETRICS: two files. Prints {"families": {NAME: {"type", "help", "labels", "samples"}}, "wrong": [...]} as
JSON. A page that the parser refuses is wrong as a whole. NAME is as OpenMetrics has it; `samples` are the names of
samples as the text format has them, which are those that a query uses.

What `promtool check metrics` asks of the text format is asked here of both, and what it does not ask too: the two say the same.
"""

import json
import re
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families

NAME = re.compile(r"(greenroom|process)(_[a-z0-9]+)+")
LABEL = re.compile(r"[a-z][a-z0-9_]*")
BASE_UNITS = {"seconds", "bytes"}
OTHER_UNITS = {"milliseconds", "ms", "microseconds", "minutes", "hours", "kilobytes", "kib", "mib", "percent", "bits"}
RESERVED = ("_total", "_info", "_count", "_sum", "_bucket", "_created")


def key(sample):
    return sample.name, tuple(sorted(sample.labels.items()))


def lint_family(family, wrong):
    name, say = family.name, lambda what: wrong.append(f"{family.name}: {what}")
    if not NAME.fullmatch(name):
        say("is no name of greenroom's or of a process")
    if not family.documentation.strip().endswith("."):
        say("has no help, or one that is no sentence")
    if family.documentation.lower().startswith(name):
        say("its help repeats its name")
    if family.type in ("unknown", "unset"):
        say("has no type")
    if name.endswith(RESERVED):
        say("ends like a sample's suffix")
    words = name.split("_")
    if OTHER_UNITS & set(words):
        say("has a unit that is no base unit")
    if {"gauge", "counter", "histogram", "summary"} & set(words):
        say("has its type in its name")
    # process_start_time_seconds has its name from every other client, and that from before there were units.
    unit = words[-1] if words[-1] in BASE_UNITS else ""
    if family.unit != unit:
        say(f"has the unit {family.unit!r}, and its name says {unit!r}")
    seen = set()
    for sample in family.samples:
        if key(sample) in seen:
            say(f"has {key(sample)} twice")
        seen.add(key(sample))
        if sample.timestamp is not None:
            say("has a timestamp")
        lint_labels(family, sample, say)
    if family.type == "histogram":
        lint_histogram(family, say)
    if family.type == "counter" and not all(s.name == name + "_total" and s.value >= 0 for s in family.samples):
        say("is a counter, and a sample does not end in _total or is negative")


def lint_labels(family, sample, say):
    for label, value in sample.labels.items():
        allowed = label == "le" and family.type == "histogram"
        if not LABEL.fullmatch(label) or (label in ("le", "quantile", "job", "instance", "word", "type", "name") and not allowed):
            say(f"has a label {label!r}")
        if not value or value != value.strip():
            say(f"has a label {label!r} with the value {value!r}")


def lint_histogram(family, say):
    series = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        series.setdefault(labels, {"buckets": []})
        if sample.name.endswith("_bucket"):
            series[labels]["buckets"].append((float(sample.labels["le"]), sample.value))
        else:
            series[labels][sample.name[len(family.name) :]] = sample.value
    for labels, found in series.items():
        bounds = [bound for bound, _ in found["buckets"]]
        counts = [count for _, count in found["buckets"]]
        if bounds != sorted(set(bounds)) or bounds[-1:] != [float("inf")]:
            say(f"{labels}: its bounds are {bounds}")
        if counts != sorted(counts):
            say(f"{labels}: its buckets are not cumulative: {counts}")
        if found.get("_count") != counts[-1]:
            say(f"{labels}: _count is {found.get('_count')} and +Inf {counts[-1]}")
        if "_sum" not in found:
            say(f"{labels}: has no _sum")


def main():
    text, opened = (open(path, encoding="utf-8").read() for path in sys.argv[1:3])
    wrong = []
    if not opened.endswith("\n# EOF\n") or "# EOF" in text:
        wrong.append("# EOF ends OpenMetrics, and nothing else")
    plain, families = [], []
    for parse, page, into in ((text_families, text, plain), (open_families, opened, families)):
        try:
            into.extend(parse(page))
        except ValueError as error:
            wrong.append(f"{parse.__module__} refuses the page: {error}")
    names = [family.name for family in families]
    if len(names) != len(set(names)):
        wrong.append("a family is there twice")
    helps = [family.documentation for family in families]
    wrong.extend(f"two families have the help {text!r}" for text in helps if helps.count(text) > 1)
    for page in (text, opened):
        described = re.findall(r"^# (?:HELP|TYPE) (\S+)", page, re.MULTILINE)
        wrong.extend(f"{name}: no HELP and TYPE, once each" for name in set(described) if described.count(name) != 2)
    for family in families:
        lint_family(family, wrong)
    # What is only named has no samples; the parser of the text format leaves such families out.
    as_text = {key(sample): family for family in plain for sample in family.samples}
    as_open = {key(sample) for family in families for sample in family.samples}
    if set(as_text) != as_open:
        wrong.append(f"the formats differ: {sorted(set(as_text) ^ as_open)[:5]}")
    told = {}
    for family in families:
        samples = sorted({sample.name for sample in family.samples})
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        told[family.name] = {"type": family.type, "help": family.documentation, "labels": labels, "samples": samples}
    print(json.dumps({"families": told, "wrong": wrong}))


main()
