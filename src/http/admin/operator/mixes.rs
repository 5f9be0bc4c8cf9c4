//! Where answers come from, and which tiers they are in beside those of training: a shift is the earliest sign of a broken
//! feature.

use super::chart::{Percent, shares};
use super::look::Findings;
use super::status::runbook;
use super::trouble::Runbook;
use super::words::count;
use crate::http::page::Markup;
use scoreline_domain::{Probability, Source, Tier};

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    let traffic = &findings.traffic;
    html.raw("<h2>Where answers come from</h2><div class=\"grid\">");
    for (title, counted) in [("Source, last hour", traffic.sources[0]), ("Source, last day", traffic.sources[1])] {
        let parts: Vec<_> = Source::ALL.iter().zip(counted).map(|(source, of)| (source.as_str(), of as f64)).collect();
        shares(html, title, "s", &parts);
    }
    html.raw("</div><p class=\"quiet\">");
    let [imputed, outside] = traffic.recent.reading.remarks();
    let answers: u64 = traffic.recent.reading.sources().iter().sum();
    if answers > 0 {
        html.text(Percent(imputed as f64 / answers as f64)).raw(" of the last minute's ").text(count(answers));
        html.raw(" answers had an imputed feature, ").text(Percent(outside as f64 / answers as f64));
        html.raw(" one outside of its training range. ");
    }
    runbook(html, Runbook::Fallbacks);
    html.raw("</p><h2>Tiers</h2><div class=\"grid\">");
    // The most valuable first, as everywhere.
    let tiers = |counted: [f64; 3]| {
        let mut parts: Vec<_> = Tier::ALL.iter().zip(counted).map(|(tier, of)| (tier.as_str(), of)).collect();
        parts.reverse();
        parts
    };
    shares(html, "Tier, last hour", "t", &tiers(traffic.tiers[0].map(|of| of as f64)));
    shares(html, "Tier, last day", "t", &tiers(traffic.tiers[1].map(|of| of as f64)));
    if let Some((snapshot, neutral)) = findings.clv.as_ref().and_then(|it| Some((it, it.manifest().neutral.as_ref()?)))
    {
        let title = format!("Tier, training of {} {}", snapshot.name(), snapshot.version());
        shares(html, &title, "t", &tiers(neutral.tier_share.map(Probability::get)));
    }
    html.raw("</div><p class=\"quiet\">Customers who call are not those of the training rows; a jump within a day is what to look at. ");
    runbook(html, Runbook::Mix);
    html.raw("</p>");
}
