//! What is wrong with a configuration, for the person who mends it.
//!
//! All problems are gathered and shown at once, each as rustc would: a title with
//! key, value and range, the lines it is about, and what to do. At most
//! `CONFIG_PROBLEMS_MAX` are kept; the rest is counted.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use greenroom_core::limits::{CONFIG_MESSAGE_MAX, CONFIG_PROBLEMS_MAX};

use super::source::{Place, Sources};
use crate::telemetry::printable;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    title: String,
    place: Option<Place>,
    label: String,
    /// Other places it is about.
    related: Vec<(Place, String)>,
    help: Vec<String>,
}

impl Problem {
    /// With a title that says what is wrong with which key and value.
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            place: None,
            label: String::new(),
            related: Vec::new(),
            help: Vec::new(),
        }
    }

    /// Where.
    pub(super) fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Where, if it is known.
    pub(super) fn near(mut self, place: Option<&Place>) -> Self {
        self.place = place.cloned();
        self
    }

    /// Said of the place.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Another place, and what is said of it.
    pub(super) fn related(mut self, place: Option<&Place>, label: impl Into<String>) -> Self {
        if let Some(place) = place {
            self.related.push((place.clone(), label.into()));
        }
        self
    }

    /// What to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// All that is wrong, so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    left_out: usize,
}

impl Problems {
    /// Adds one, if there is room.
    pub(super) fn add(&mut self, problem: Problem) {
        if self.list.len() < CONFIG_PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds a help to all of them.
    pub(super) fn add_help(&mut self, help: &str) {
        for problem in &mut self.list {
            problem.help.push(help.to_owned());
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// A configuration that cannot be used, with all that is wrong with it.
#[derive(Debug)]
pub struct Invalid {
    sources: Sources,
    problems: Problems,
}

impl Invalid {
    pub(super) fn new(sources: Sources, mut problems: Problems) -> Self {
        // As one reads: by layer, then from top to bottom; what has no place comes first.
        problems
            .list
            .sort_by_key(|problem| problem.place.as_ref().map(|place| (place.source, place.range.start)));
        Self { sources, problems }
    }

    /// How many things are wrong.
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.list.len() + self.problems.left_out
    }

    /// All of it as text that ends with a newline, with colours or without.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for problem in &self.problems.list {
            let group = self.group(problem);
            text.push_str(&renderer.render(&[group]));
            text.push_str("\n\n");
        }
        text.push_str(&match self.count() {
            1 => "1 error\n".to_owned(),
            count if self.problems.left_out > 0 => {
                format!("{count} errors, the first {} of them shown\n", self.problems.list.len())
            }
            count => format!("{count} errors\n"),
        });
        text
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let mut group = Level::ERROR
            .primary_title(printable(&problem.title, CONFIG_MESSAGE_MAX))
            .elements(Vec::<Snippet<'a, annotate_snippets::Annotation<'a>>>::new());
        if let Some(place) = &problem.place {
            let near: Vec<_> = problem
                .related
                .iter()
                .filter(|(p, _)| p.source == place.source)
                .collect();
            // One excerpt from the first line to the last; what lies between is folded away.
            let whole = near.iter().fold(place.range.clone(), |all, (p, _)| {
                all.start.min(p.range.start)..all.end.max(p.range.end)
            });
            if let Some(snippet) = self.snippet(place, &whole, &problem.label, &near) {
                group = group.element(snippet);
            }
            for (other, label) in problem.related.iter().filter(|(p, _)| p.source != place.source) {
                if let Some(snippet) = self.snippet(other, &other.range, label, &[]) {
                    group = group.element(snippet);
                }
            }
        }
        for help in &problem.help {
            group = group.element(Level::HELP.message(printable(help, CONFIG_MESSAGE_MAX)));
        }
        group
    }

    fn snippet<'a>(
        &'a self,
        place: &Place,
        whole: &Range<usize>,
        label: &'a str,
        others: &[&'a (Place, String)],
    ) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let excerpt = self.sources.excerpt(place.source, whole)?;
        let shift = |range: &Range<usize>| within(&excerpt.text, range, excerpt.begin);
        let said = |label: &'a str| (!label.is_empty()).then_some(Cow::Borrowed(label));
        let primary = AnnotationKind::Primary.span(shift(&place.range)).label(said(label));
        let context = others
            .iter()
            .map(|(place, label)| AnnotationKind::Context.span(shift(&place.range)).label(said(label)));
        let annotations: Vec<_> = std::iter::once(primary).chain(context).collect();
        let snippet = Snippet::source(excerpt.text.clone())
            .line_start(excerpt.first_line)
            .annotations(annotations);
        Some(snippet.path(excerpt.path).line_numbering(excerpt.is_file))
    }
}

/// A range of the whole text, within the excerpt that begins at `begin`, on character boundaries.
fn within(excerpt: &str, range: &Range<usize>, begin: usize) -> Range<usize> {
    let place = |at: usize| {
        let mut at = at.saturating_sub(begin).min(excerpt.len());
        while !excerpt.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = place(range.start);
    start..place(range.end).max(start)
}
