//! The agent's page: a word before a number, how sure it is, what moved it, how old it is. No script, no cookie, no
//! identifier; numbers and dates are written by the server in the agent's language.

mod figures;
mod scale;
mod words;

use scoreline_domain::time::{Timestamp, seconds_between};
use scoreline_domain::words::{Direction, Language};
use scoreline_domain::{Source, Tier};

use super::{Markup, Page};
use crate::conversations::{GivenAnswer, GivenBaseline, GivenScore};
use crate::scoring::NEUTRAL;
use figures::{age, day};
use words::{Words, filled};

/// Styles beside those of all pages.
const STYLES: &str = include_str!("agent.css");
/// Reasons that are shown: what is read while somebody speaks.
const MOST_REASONS: usize = 3;
/// Warnings that are shown.
const MOST_FLAGS: usize = 2;
/// Days of a month, to say a horizon in months.
const MONTH: f64 = 30.4375;

/// What the page shows.
pub(crate) enum AgentView<'a> {
    Answer(ShownAnswer<'a>),
    Notice(Notice),
}

/// An answer, explained.
pub(crate) struct ShownAnswer<'a> {
    pub answer: &'a GivenAnswer,
    /// The largest first.
    pub reasons: Vec<ShownReason>,
}

/// What moved a score, in words, and by how much: US dollars, or points of a probability.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShownReason {
    pub words: String,
    pub amount: f64,
}

/// What the page says where there is nothing to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The customer was erased.
    Erased,
    /// The conversation has no answer, or not any more.
    Unknown,
    /// The link is not taken.
    Expired,
    /// It was not opened in a frame.
    NotFramed,
}

/// A page to be sent.
pub(crate) struct AgentPage {
    language: Language,
    title: &'static str,
    body: Markup,
    /// What is shown, in one word.
    pub state: &'static str,
}

impl AgentPage {
    /// `again` is the address that the page can be asked for again at.
    pub(crate) fn new(language: Language, view: &AgentView<'_>, again: &str, now: Timestamp) -> Self {
        let words = Words::of(language);
        let mut paper = Paper { language, words, again, now, markup: Markup::default() };
        let (title, state) = match view {
            AgentView::Notice(notice) => (words.customer, paper.notice(*notice)),
            AgentView::Answer(shown) => paper.answer(shown),
        };
        Self { language, title, body: paper.markup, state }
    }

    /// For pages of these hosts.
    pub(crate) fn page<'a>(&'a self, framed_by: &'a str) -> Page<'a> {
        Page {
            lang: self.language.tag(),
            title: self.title,
            styles: STYLES,
            script: None,
            framed_by: Some(framed_by),
            body: &self.body,
        }
    }
}

/// A page being written.
struct Paper<'a> {
    language: Language,
    words: &'static Words,
    again: &'a str,
    now: Timestamp,
    markup: Markup,
}

impl Paper<'_> {
    fn heading(&mut self, title: &'static str) {
        self.markup.raw("<main aria-labelledby=\"t\"><h1 id=\"t\">").text(title).raw("</h1>");
    }

    fn notice(&mut self, notice: Notice) -> &'static str {
        let (text, state) = match notice {
            Notice::Erased => (self.words.erased, "erased"),
            Notice::Unknown => (self.words.unknown, "unknown"),
            Notice::Expired => (self.words.expired, "expired"),
            Notice::NotFramed => (self.words.not_framed, "not_framed"),
        };
        self.heading(self.words.customer);
        self.empty(text, notice == Notice::Unknown);
        state
    }

    fn empty(&mut self, text: &'static str, can_change: bool) {
        self.markup.raw("<p class=\"empty\" role=\"status\">").text(text).raw("</p>");
        if can_change {
            self.again();
        }
        self.markup.raw("</main>");
    }

    /// A link works in every sandbox; a form needs one that allows forms.
    fn again(&mut self) {
        let (address, words) = (self.again, self.words.again);
        self.markup.raw("<p><a class=\"button\" href=\"").text(address).raw("\">").text(words).raw("</a></p>");
    }

    /// The title and the state.
    fn answer(&mut self, shown: &ShownAnswer<'_>) -> (&'static str, &'static str) {
        let answer = shown.answer;
        match &answer.score {
            GivenScore::Clv { .. } if answer.baseline.as_ref().is_some_and(|it| it.level == NEUTRAL) => {
                // The mean of everybody says nothing of this customer.
                self.heading(self.words.customer);
                self.empty(self.words.nothing_known, true);
                (self.words.customer, "nothing_known")
            }
            GivenScore::Clv { .. } => {
                self.heading(self.words.customer);
                self.customer(answer);
                let state = self.flags(answer);
                self.reasons(&shown.reasons, Language::whole_usd);
                self.foot(answer, self.words.courtesy);
                (self.words.customer, state)
            }
            GivenScore::Lead { priority, probability } => {
                self.heading(self.words.lead);
                self.lead(*priority, *probability);
                let state = self.flags(answer);
                self.reasons(&shown.reasons, Language::points);
                self.foot(answer, self.words.lead_courtesy);
                (self.words.lead, state)
            }
        }
    }

    fn customer(&mut self, answer: &GivenAnswer) {
        let GivenScore::Clv { value, interval, tier, horizon_days, limits, .. } = &answer.score else { return };
        let (language, words) = (self.language, self.words);
        let money = |amount| language.whole_usd(amount);
        let place = match tier {
            Tier::Low => 0,
            Tier::Medium => 1,
            Tier::High => 2,
        };
        self.markup.raw("<div class=\"top\"><p class=\"tier\">").text(words.tiers[place]);
        self.markup.raw("</p><p class=\"value\">").text(money(*value)).raw("</p></div>");
        if let Some(days) = horizon_days {
            let months = format!("{:.0}", (f64::from(*days) / MONTH).max(1.0));
            self.line(&filled(words.expected, &[("months", &months)]));
        }
        if let Some((low, high, level)) = interval {
            let share = format!("{:.0}", level * 100.0);
            let likely = filled(words.likely, &[("share", &share), ("low", &money(*low)), ("high", &money(*high))]);
            let bar = scale::Bar { value: *value, low: *low, high: *high, limits: *limits };
            bar.draw(&mut self.markup, &format!("{}. {likely}", money(*value)), money);
            self.line(&likely);
        }
        if let Some((medium, high)) = limits {
            self.line(&filled(words.limits, &[("medium", &money(*medium)), ("high", &money(*high))]));
        }
    }

    fn lead(&mut self, priority: u8, probability: f64) {
        let words = self.words;
        let call = match priority {
            80.. => 0,
            71..80 => 1,
            31..71 => 2,
            0..31 => 3,
        };
        self.markup.raw("<p class=\"tier\">").text(words.calls[call]).raw("</p>");
        let behind = priority.saturating_sub(1);
        if behind > 0 {
            self.line(&filled(words.better_than, &[("share", &behind.to_string())]));
        }
        let share = (probability * 100.0).round();
        if share < 1.0 {
            self.line(words.hardly_convert);
        } else {
            self.line(&filled(words.convert, &[("share", &format!("{share:.0}"))]));
        }
    }

    fn line(&mut self, text: &str) {
        self.markup.raw("<p class=\"sub\">").text(text).raw("</p>");
    }

    /// What to be careful of: where the answer comes from before how sure it is. The word for the first of them.
    fn flags(&mut self, answer: &GivenAnswer) -> &'static str {
        let words = self.words;
        let ago = |time| age(self.language, seconds_between(time, self.now));
        let mut flags = Vec::new();
        match (answer.source, &answer.baseline) {
            (Source::ColdStart, Some(GivenBaseline { level, name })) if level != NEUTRAL => {
                let sentence = match (&answer.score, level.as_str()) {
                    (GivenScore::Lead { .. }, _) => words.new_lead,
                    (GivenScore::Clv { .. }, "segment") => words.new_by_segment,
                    (GivenScore::Clv { .. }, _) => words.new_by_channel,
                };
                flags.push(("cold_start", filled(sentence, &[("name", &name.replace('_', " "))])));
            }
            (Source::Fallback, _) => flags.push(("fallback", words.fallback.to_owned())),
            (Source::StaleCache, _) => {
                flags.push(("stale", filled(words.earlier, &[("age", &ago(answer.scored_at))])));
            }
            (Source::Model | Source::Cache | Source::ColdStart, _) => {}
        }
        if let (true, Some(time)) = (answer.is_old_history, answer.features_as_of) {
            flags.push(("stale", filled(words.old_history, &[("age", &ago(time))])));
        }
        if let GivenScore::Clv { low_confidence: true, tier_probability, .. } = &answer.score {
            let text = match tier_probability {
                Some(share) => filled(words.indicative, &[("share", &format!("{:.0}", share * 100.0))]),
                None => words.a_guess.to_owned(),
            };
            flags.push(("low_confidence", text));
        }
        for (_, text) in flags.iter().take(MOST_FLAGS) {
            self.markup.raw("<p class=\"flag\">").text(text).raw("</p>");
        }
        flags.first().map_or("fresh", |(state, _)| state)
    }

    /// Direction by arrow, word and colour, so that none of them has to be seen.
    fn reasons(&mut self, reasons: &[ShownReason], by: fn(Language, f64) -> String) {
        let words = self.words;
        // What rounds to nothing moved nothing.
        let mut told = reasons.iter().filter(|reason| reason.amount.abs() >= 0.5).take(MOST_REASONS).peekable();
        if told.peek().is_none() {
            return;
        }
        self.markup.raw("<h2>").text(words.reasons).raw("</h2><ul>");
        for reason in told {
            let amount = by(self.language, reason.amount.abs());
            self.markup.raw("<li><span>").text(&reason.words).raw("</span>");
            let (direction, open) = if reason.amount > 0.0 {
                (Direction::Raises, "<span class=\"up\"><span aria-hidden=\"true\">")
            } else {
                (Direction::Lowers, "<span class=\"down\"><span aria-hidden=\"true\">")
            };
            self.markup.raw(open).text(direction.arrow()).raw(" </span>").text(direction.verb(self.language));
            self.markup.raw(" ").text(amount).raw("</span></li>");
        }
        self.markup.raw("</ul>");
    }

    fn foot(&mut self, answer: &GivenAnswer, courtesy: &'static str) {
        let words = self.words;
        let calculated = match seconds_between(answer.scored_at, self.now) {
            0..60 => words.just_now.to_owned(),
            seconds => filled(words.calculated, &[("age", &age(self.language, seconds))]),
        };
        self.markup.raw("<footer><p>").text(calculated);
        if let Some(time) = answer.features_as_of {
            let day = day(self.language, time, self.now);
            self.markup.raw(" · ").text(filled(words.history, &[("day", &day)]));
        }
        self.markup.raw("</p><p>").text(courtesy).raw("</p></footer></main>");
    }
}

#[cfg(test)]
mod tests;
