//! The report of a training run: one HTML file that needs nothing else. Pure functions from `data` to text.

pub(crate) mod chart;
pub mod data;
pub mod lead;
pub mod measured;
pub mod run;
pub(crate) mod svg;

use std::fmt::Write as _;

use scoreline_engine::inference::manifest::Luck;

use crate::packing::html::chart::{coverage, deciles, drift, gain, histogram, importance, over_time, reliability};
use crate::packing::html::data::{Confusion, Figure, Goal, Predecessor, ReportData, Table};
use crate::packing::html::svg::{Unit, escape, number};
use crate::packing::leaks::{LeakReport, Verdict};

const STYLE: &str = include_str!("style.css");

/// Normal quantile of two-sided 90 % intervals.
const Z90: f64 = 1.644_853_6;

/// The whole page.
pub fn page(data: &ReportData) -> String {
    let ReportData {
        title,
        description,
        caution,
        facts,
        headline,
        before,
        gain,
        deciles,
        coverage,
        reliability,
        importance,
        histograms,
        over_time,
        tiers,
        tables,
        drift,
        leaks,
    } = data;
    let mut page = Page(String::new());
    page.write(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"/>\n<title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<h1>{0}</h1>\n",
        escape(title)
    ));
    page.verdict(headline, before.as_ref());
    page.paragraph("", description);
    page.paragraph("caution", caution);
    page.facts(facts);
    if !headline.is_empty() {
        page.heading("Figures on the test rows");
        page.headline(headline);
    }
    if let Some(before) = before {
        page.before(before);
    }
    let mut figures = Vec::new();
    figures.extend(gain.iter().map(|gain| ("Gain", gain::draw(gain), String::new())));
    if !deciles.is_empty() {
        let note = "Each dot is the mean of a tenth of the customers; its bar holds 90 % of bootstrap means.";
        figures.push(("Level by decile", deciles::draw(deciles), note.to_owned()));
    }
    let range = reliability::range(reliability);
    for one in reliability {
        let note = format!("Expected calibration error {:.4}.", one.error);
        figures.push((one.title.as_str(), reliability::draw(one, range), note));
    }
    page.figures("Order, level and probabilities", &figures);
    if let Some(one) = importance {
        page.figures("What the answers depend on", &[("", importance::draw(one), importance::note(one))]);
    }
    let mut figures = Vec::new();
    let range = coverage::range(coverage);
    for one in coverage {
        let mut note = "Dots with binomial 90 % intervals; grey: the level.".to_owned();
        if one.band.is_some() {
            note += " Shaded: goal for the whole.";
        }
        if one.least.is_some() {
            note += " Dashed: least of every group.";
        }
        figures.push(("", coverage::draw(one, range), note));
    }
    page.figures("Coverage of the intervals", &figures);
    let mut figures = Vec::new();
    figures.extend(over_time.iter().map(|one| (one.title.as_str(), over_time::draw(one), one.note.clone())));
    figures.extend(histograms.iter().map(|one| (one.title.as_str(), histogram::draw(one), one.note.clone())));
    page.figures("Distribution and time", &figures);
    if let Some(tiers) = tiers {
        page.heading("Tiers");
        page.tiers(tiers);
    }
    for table in tables {
        page.heading(&table.title);
        page.table(table);
    }
    if let Some(leaks) = leaks {
        page.leaks(leaks);
    }
    if !drift.is_empty() {
        page.heading("Reference distribution of the features");
        page.paragraph("quiet", "Shares of the fit rows in each drift bin: what later traffic is compared with.");
        page.write(format_args!("<div class=\"small-grid\">\n"));
        for feature in drift {
            page.write(format_args!("<figure>{}</figure>\n", drift::draw(feature)));
        }
        page.write(format_args!("</div>\n"));
    }
    page.write(format_args!("</body>\n</html>\n"));
    page.0
}

/// A share and its 90 % interval (Wilson 1927): good for small counts and shares near 0 or 1.
pub(crate) fn wilson(happened: usize, n: usize) -> (f64, [f64; 2]) {
    if n == 0 {
        return (0.0, [0.0, 1.0]);
    }
    let (k, n) = (happened as f64, n as f64);
    let share = k / n;
    let z2 = Z90 * Z90;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z90 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    (share, [(centre - half).max(0.0), (centre + half).min(1.0)])
}

struct Page(String);

impl Page {
    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(what);
    }

    fn heading(&mut self, text: &str) {
        self.write(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    fn paragraph(&mut self, class: &str, text: &str) {
        if !text.is_empty() {
            self.write(format_args!("<p class=\"{class}\">{}</p>\n", escape(text)));
        }
    }

    /// What the figures below come to, for whoever reads nothing else.
    fn verdict(&mut self, headline: &[Figure], before: Option<&Predecessor>) {
        let held: Vec<_> = headline.iter().filter_map(|figure| Some((figure, figure.goal?))).collect();
        if held.is_empty() {
            return;
        }
        let missed: Vec<_> = held
            .iter()
            .filter(|(one, goal)| !goal.met(one.value))
            .map(|(one, goal)| format!("{} {} ({})", one.name, figure(one.value, one.unit), goal_of(*goal, one.unit)))
            .collect();
        let (class, mut text) = if missed.is_empty() {
            ("verdict met", format!("All {} goals are met.", held.len()))
        } else {
            let missed = format!("{} of {} goals are missed: {}.", missed.len(), held.len(), missed.join("; "));
            ("verdict missed", missed)
        };
        if let Some(Predecessor { name, figures }) = before {
            let count = |wanted| figures.iter().filter(|one| one.is_better() == Some(wanted)).count();
            let _ = write!(text, " Against {name}: {} figures are better, {} worse.", count(true), count(false));
        }
        self.paragraph(class, &text);
    }

    fn before(&mut self, Predecessor { name, figures }: &Predecessor) {
        self.heading(&format!("Against {name}"));
        self.paragraph(
            "quiet",
            "Each as it was measured when its version was made: on other rows where the data are others.",
        );
        self.write(format_args!(
            "<div class=\"wide\"><table><thead><tr><th>figure</th><th>this version</th><th>{}</th><th></th></tr></thead>\
             <tbody>\n",
            escape(name)
        ));
        for one in figures {
            let (class, word) = match one.is_better() {
                Some(true) => ("met", "better"),
                Some(false) => ("missed", "worse"),
                None => ("", ""),
            };
            let Figure { name, value, unit, .. } = &one.figure;
            self.write(format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>\n",
                escape(name),
                figure(*value, *unit),
                figure(one.before, *unit)
            ));
        }
        self.write(format_args!("</tbody></table></div>\n"));
    }

    fn facts(&mut self, facts: &[(String, String)]) {
        self.write(format_args!("<dl>\n"));
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            self.write(format_args!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
        }
        self.write(format_args!("</dl>\n"));
    }

    /// Nothing at all when there is no figure.
    fn figures(&mut self, heading: &str, figures: &[(&str, String, String)]) {
        if figures.iter().all(|(_, picture, _)| picture.is_empty()) {
            return;
        }
        self.heading(heading);
        self.write(format_args!("<div class=\"grid\">\n"));
        for (title, picture, note) in figures.iter().filter(|(_, picture, _)| !picture.is_empty()) {
            self.write(format_args!("<figure>"));
            if !title.is_empty() {
                self.write(format_args!("<h3>{}</h3>", escape(title)));
            }
            self.write(format_args!("{picture}"));
            if !note.is_empty() {
                self.write(format_args!("<figcaption>{}</figcaption>", escape(note)));
            }
            self.write(format_args!("</figure>\n"));
        }
        self.write(format_args!("</div>\n"));
    }

    fn headline(&mut self, figures: &[Figure]) {
        self.write(format_args!(
            "<div class=\"wide\"><table><thead><tr><th>figure</th><th>measured</th><th>by luck</th><th>goal</th><th></th></tr></thead>\
             <tbody>\n"
        ));
        for Figure { name, value, unit, goal, luck } in figures {
            let (goal_text, class, word) = match goal {
                None => (String::new(), "", ""),
                Some(goal) if goal.met(*value) => (goal_of(*goal, *unit), "met", "met"),
                Some(goal) => (goal_of(*goal, *unit), "missed", "missed"),
            };
            let luck_text = luck.map_or(String::new(), |Luck { mean, low, high }| {
                let [mean, low, high] = [mean, low, high].map(|one| figure(one, *unit));
                format!("{mean} ({low} to {high})")
            });
            self.write(format_args!(
                "<tr><td>{}</td><td>{}</td><td>{luck_text}</td><td>{goal_text}</td><td class=\"{class}\">{word}</td></tr>\n",
                escape(name),
                figure(*value, *unit)
            ));
        }
        self.write(format_args!("</tbody></table></div>\n"));
        if figures.iter().any(|figure| figure.luck.is_some()) {
            self.paragraph(
                "quiet",
                "By luck: what a perfect model shows on the same rows, mean and 5 to 95 % of 200 draws of their outcomes.",
            );
        }
    }

    fn table(&mut self, table: &Table) {
        let Table { title: _, note, header, rows } = table;
        self.paragraph("quiet", note);
        self.write(format_args!("<div class=\"wide\"><table><thead><tr>"));
        for name in header {
            self.write(format_args!("<th>{}</th>", escape(name)));
        }
        self.write(format_args!("</tr></thead><tbody>\n"));
        for row in rows {
            self.write(format_args!("<tr>"));
            for cell in row {
                self.write(format_args!("<td>{}</td>", escape(cell)));
            }
            self.write(format_args!("</tr>\n"));
        }
        self.write(format_args!("</tbody></table></div>\n"));
    }

    fn tiers(&mut self, tiers: &Confusion) {
        let total = tiers.total().max(1);
        let right: usize = tiers.counts.iter().enumerate().map(|(i, row)| row[i]).sum();
        self.paragraph(
            "quiet",
            &format!(
                "Rows: the tier assigned; columns: the tier of what was really spent. {} of {total} agree ({}).",
                right,
                number(right as f64 / total as f64, 0.001, Unit::Percent)
            ),
        );
        self.write(format_args!("<div class=\"wide\"><table><thead><tr><th>assigned</th>"));
        for name in &tiers.names {
            self.write(format_args!("<th>{}</th>", escape(name)));
        }
        self.write(format_args!("<th>all</th></tr></thead><tbody>\n"));
        for (name, row) in tiers.names.iter().zip(&tiers.counts) {
            let all: usize = row.iter().sum();
            self.write(format_args!("<tr><td>{}</td>", escape(name)));
            for count in row {
                let share = *count as f64 / all.max(1) as f64;
                self.write(format_args!(
                    "<td class=\"cell\" style=\"--share:{:.0}\">{} ({})</td>",
                    share * 60.0,
                    number(*count as f64, 1.0, Unit::Number),
                    number(share, 0.01, Unit::Percent)
                ));
            }
            self.write(format_args!("<td>{}</td></tr>\n", number(all as f64, 1.0, Unit::Number)));
        }
        self.write(format_args!("</tbody></table></div>\n"));
    }

    fn leaks(&mut self, leaks: &LeakReport) {
        self.heading("Leak checks");
        for check in &leaks.checks {
            let (class, word) = if check.passed { ("met", "passed") } else { ("missed", "refused") };
            self.write(format_args!(
                "<p><span class=\"{class}\">{word}</span> {}: {}</p>\n",
                escape(check.name),
                escape(&check.detail)
            ));
        }
        for warning in leaks.warnings() {
            self.write(format_args!("<p><span class=\"missed\">warning</span> {}</p>\n", escape(&warning)));
        }
        for target in &leaks.targets {
            let together = [
                Some(("random rows", target.random_auc)),
                target.group_auc.map(|auc| ("unseen groups", auc)),
                target.time_auc.map(|auc| ("the latest rows", auc)),
            ];
            let together: Vec<_> =
                together.into_iter().flatten().map(|(place, auc)| format!("{auc:.3} on {place}")).collect();
            self.write(format_args!(
                "<p>Columns against <strong>{}</strong> ({} of {} rows); accepted ones together: AUC {}.</p>\n\
                 <div class=\"wide\"><table><thead><tr><th>column</th><th>values</th><th>AUC ranked</th>\
                 <th>AUC binned</th><th>adds</th><th class=\"said\">verdict</th></tr></thead><tbody>\n",
                escape(&target.label),
                number(target.share, 0.001, Unit::Percent),
                number(leaks.rows as f64, 1.0, Unit::Number),
                together.join(", ")
            ));
            let mut columns: Vec<_> = target.columns.iter().collect();
            columns.sort_by(|a, b| b.alone.best().total_cmp(&a.alone.best()));
            for column in columns {
                let auc = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
                let verdict = match &column.verdict {
                    Verdict::Accepted => String::new(),
                    other @ (Verdict::Identifier | Verdict::Refused(_) | Verdict::Allowed(..)) => escape(&other.word()),
                };
                self.write(format_args!(
                    "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"said\">{verdict}</td></tr>\n",
                    escape(&column.name),
                    number(column.distinct as f64, 1.0, Unit::Number),
                    auc(column.alone.ranked),
                    auc(Some(column.alone.binned)),
                    auc(column.gain)
                ));
            }
            self.write(format_args!("</tbody></table></div>\n"));
        }
    }
}

fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Number => number(value, 0.0001, unit),
        Unit::Percent => number(value, 0.001, unit),
        Unit::Usd => number(value, 0.01, unit),
    }
}

fn goal_of(goal: Goal, unit: Unit) -> String {
    let text = |value: f64| number(value, 0.0, unit);
    match goal {
        Goal::AtLeast(least) => format!("\u{2265} {}", text(least)),
        Goal::AtMost(most) => format!("\u{2264} {}", text(most)),
        Goal::Between(low, high) => format!("{} to {}", text(low), text(high)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::packing::html::data::{
        ComparedFigure, Coverage, Covered, Decile, Drift, Gain, Histogram, Importance, OverTime, Reliability,
        ReliabilityBin,
    };
    use crate::packing::html::lead::Scored;
    use crate::packing::leaks::alone::Alone;
    use crate::packing::leaks::{Check, ColumnReport, Reason, TargetReport};

    /// Everything a report can hold, with names that try to break out.
    fn full() -> ReportData {
        let evil = "<script>alert(\"a\" & 'b')</script>".to_owned();
        let column = |name: &str, verdict| ColumnReport {
            name: name.to_owned(),
            distinct: 3,
            alone: Alone { ranked: None, binned: 0.93 },
            gain: None,
            verdict,
        };
        let target = TargetReport {
            label: evil.clone(),
            share: 0.3,
            columns: vec![column(&evil, Verdict::Refused(Reason::Alone)), column("job", Verdict::Accepted)],
            random_auc: 0.8,
            group_auc: None,
            time_auc: Some(0.7),
            scored: Scored::default(),
        };
        ReportData {
            title: evil.clone(),
            description: evil.clone(),
            caution: evil.clone(),
            facts: vec![(evil.clone(), evil.clone())],
            headline: vec![Figure {
                name: evil.clone(),
                value: 0.7,
                unit: Unit::Number,
                goal: Some(Goal::AtLeast(0.6)),
                luck: Some(Luck { mean: 0.65, low: 0.6, high: 0.72 }),
            }],
            before: Some(Predecessor { name: evil.clone(), figures: vec![compared(0.7, 0.6, Goal::AtLeast(0.6))] }),
            gain: Some(Gain {
                of: evil.clone(),
                model: vec![[0.0, 0.0], [0.1, 0.5], [1.0, 1.0]],
                perfect: vec![[0.0, 0.0], [0.1, 0.8], [1.0, 1.0]],
            }),
            deciles: deciles_of([2.0, 8.0, 90.0]),
            coverage: vec![Coverage {
                level: 0.9,
                groups: vec![Covered { label: evil.clone(), n: 300, inside: 271 }],
                band: Some([0.885, 0.915]),
                least: Some(0.87),
            }],
            reliability: vec![Reliability {
                title: evil.clone(),
                event: evil.clone(),
                bins: vec![ReliabilityBin { n: 100, said: 0.2, happened: 22 }],
                error: 0.02,
            }],
            importance: Some(Importance {
                axis: evil.clone(),
                unit: Unit::Usd,
                rows: 500,
                features: vec![(evil.clone(), 12.5), ("b".into(), 0.0)],
            }),
            histograms: vec![Histogram {
                title: evil.clone(),
                axis: evil.clone(),
                unit: Unit::Usd,
                edges: vec![0.0, 10.0, 20.0],
                shares: vec![0.7, 0.2],
                above: 0.1,
                note: evil.clone(),
            }],
            over_time: vec![OverTime {
                title: evil.clone(),
                axis: evil.clone(),
                unit: Unit::Number,
                blocks: vec![evil.clone(), "b".into(), "c".into()],
                lines: vec![(evil.clone(), vec![0.7, f64::NAN, 0.6])],
                note: evil.clone(),
            }],
            tiers: Some(Confusion { names: vec![evil.clone(), "High".into()], counts: vec![vec![8, 1], vec![2, 3]] }),
            tables: vec![Table {
                title: evil.clone(),
                note: evil.clone(),
                header: vec![evil.clone()],
                rows: vec![vec![evil.clone()]],
            }],
            drift: vec![Drift {
                feature: evil.clone(),
                unit: evil.clone(),
                edges: vec![0.0, 5.0],
                shares: vec![0.5, 0.2, 0.2],
                missing: 0.1,
            }],
            leaks: Some(LeakReport {
                rows: 100,
                targets: vec![target],
                checks: vec![Check { name: "as-of test", passed: false, detail: evil }],
            }),
        }
    }

    fn deciles_of(means: [f64; 3]) -> Vec<Decile> {
        means
            .map(|mean| Decile { n: 10, predicted: mean, actual: mean * 1.1, low: mean * 0.8, high: mean * 1.3 })
            .to_vec()
    }

    /// Every opened element is closed in order, every attribute quoted, every `&` an entity.
    fn well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let body = page.strip_prefix("<!doctype html>\n").expect("a doctype");
        let mut rest = body;
        while let Some(start) = rest.find('<') {
            for piece in rest[..start].split('&').skip(1) {
                let entity = piece.split(';').next().expect("a piece");
                assert!(["amp", "lt", "gt", "quot", "#39"].contains(&entity), "`&{entity}`");
            }
            assert!(!rest[..start].contains('>'), "{}", &rest[..start]);
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "closed out of order");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }

    #[test]
    fn a_full_report_is_well_formed_and_names_can_not_break_out() {
        let page = page(&full());
        // The style sheet is the one part that is not markup.
        let head = page.find("<style>").expect("a style");
        let tail = page.find("</style>").expect("an end");
        well_formed(&format!("{}{}", &page[..head], &page[tail + "</style>".len()..]));
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        for outside in ["http://", "https://", "url(", "@import", "src=", "href="] {
            let found = page.replace("http://www.w3.org/2000/svg", "").contains(outside);
            assert!(!found, "`{outside}`: a report asks nobody for anything");
        }
    }

    #[test]
    fn an_empty_report_is_a_page_too() {
        let page = page(&ReportData { title: "clv v1".into(), ..ReportData::default() });
        assert!(page.contains("<h1>clv v1</h1>") && !page.contains("<svg") && !page.contains("<h2>"));
    }

    fn compared(now: f64, before: f64, goal: Goal) -> ComparedFigure {
        let figure = Figure { name: "<i>total".into(), value: now, unit: Unit::Number, goal: Some(goal), luck: None };
        ComparedFigure { figure, before }
    }

    #[test]
    fn a_verdict_comes_first_and_says_what_is_missed_and_what_is_worse() {
        let figure =
            |name: &str, value, goal| Figure { name: name.into(), value, unit: Unit::Number, goal, luck: None };
        let mut data = ReportData {
            title: "clv v1.3".into(),
            description: "A model.".into(),
            headline: vec![
                figure("Gini", 0.71, Some(Goal::AtLeast(0.7))),
                figure("ECE", 0.02, Some(Goal::AtMost(0.015))),
                figure("mean", 3.0, None),
            ],
            before: Some(Predecessor {
                name: "clv v1.2".into(),
                figures: vec![
                    compared(0.71, 0.75, Goal::AtLeast(0.7)),
                    compared(0.02, 0.03, Goal::AtMost(0.015)),
                    compared(0.90, 0.95, Goal::Between(0.885, 0.915)),
                    compared(1.0, 1.0, Goal::AtMost(2.0)),
                ],
            }),
            ..ReportData::default()
        };
        let missed = page(&data);
        let verdict =
            "1 of 2 goals are missed: ECE 0.0200 (\u{2264} 0.015). Against clv v1.2: 2 figures are better, 1 worse.";
        assert!(missed.contains(&format!("<p class=\"verdict missed\">{verdict}</p>")), "{missed}");
        assert!(missed.find("verdict missed") < missed.find("A model."), "first");
        assert_eq!((missed.matches(">better<").count(), missed.matches(">worse<").count()), (2, 1));
        data.headline.remove(1);
        assert!(page(&data).contains("<p class=\"verdict met\">All 1 goals are met."));
    }

    #[test]
    fn goals_are_said_and_judged() {
        let figure =
            |value, goal| Figure { name: "total".into(), value, unit: Unit::Percent, goal: Some(goal), luck: None };
        let headline = vec![figure(0.02, Goal::Between(-0.03, 0.03)), figure(0.2, Goal::AtMost(0.06))];
        let page = page(&ReportData { headline, ..ReportData::default() });
        assert!(page.contains("\u{2212}3\u{202f}% to 3\u{202f}%</td><td class=\"met\">met"), "{page}");
        assert!(page.contains("\u{2264} 6\u{202f}%</td><td class=\"missed\">missed"));
    }

    #[test]
    fn the_coverage_chart_is_drawn_as_before() {
        let group = |label: &str, n, inside| Covered { label: label.into(), n, inside };
        let coverage = Coverage {
            level: 0.9,
            groups: vec![group("all customers", 2482, 2219), group("purchase_count 4 and more", 404, 355)],
            band: Some([0.885, 0.915]),
            least: Some(0.87),
        };
        let range = coverage::range(std::slice::from_ref(&coverage));
        insta::assert_snapshot!("coverage", coverage::draw(&coverage, range));
    }

    #[test]
    fn levels_share_an_axis() {
        let level = |level: f64, inside| Coverage {
            level,
            groups: vec![Covered { label: "all customers".into(), n: 1000, inside }],
            band: None,
            least: None,
        };
        let all = [level(0.5, 498), level(0.95, 951)];
        let [low, high] = coverage::range(&all);
        assert!(low <= 0.46 && high >= 0.96, "{low} {high}");
        let axis = |one: &Coverage| {
            let picture = coverage::draw(one, [low, high]);
            let ticks = picture.lines().filter(|line| line.contains("class=\"tick\"") && line.contains("middle"));
            ticks.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(axis(&all[0]), axis(&all[1]));
    }

    #[test]
    fn shares_have_honest_intervals() {
        let (share, [low, high]) = wilson(9, 10);
        assert!(
            (share - 0.9).abs() < 1e-12 && (low - 0.652_28).abs() < 1e-4 && (high - 0.977_37).abs() < 1e-4,
            "{low} {high}"
        );
        assert_eq!(wilson(0, 0), (0.0, [0.0, 1.0]));
        assert_eq!(wilson(5, 5).1[1], 1.0);
    }

    #[test]
    fn what_was_allowed_is_said_with_its_reason() {
        let mut data = full();
        let leaks = data.leaks.as_mut().expect("given");
        leaks.targets[0].columns[0].verdict = Verdict::Allowed(Reason::Alone, "known before the call".into());
        assert_eq!(
            leaks.allowed(),
            BTreeMap::from([(leaks.targets[0].columns[0].name.clone(), "known before the call".into())])
        );
        assert!(page(&data).contains("allowed: known before the call"));
    }
}
