//! The report: one HTML page that needs nothing else. No script, no font, no picture from anywhere; what
//! is drawn is SVG in the page itself (`drawing`).
//!
//! ```text
//! std::fs::write("swarm.html", lab::report::page(&outcome))?;
//! ```

mod drawing;

use super::cast::LabRole;
use super::chronicle::{Chronicle, FluidLimits, Member};
use super::{LabOutcome, LabVerdict};
use crate::protocol::plain;
use std::fmt::Write;
use std::time::Duration;

const STYLE: &str = "
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin:2.2rem 0 .3rem}
p{margin:.3rem 0 .8rem;max-width:46rem}.note{color:#555}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e4e4e4}
th:first-child,td:first-child{text-align:left}th{font-weight:600;background:#f6f6f4}
.matrix td,.matrix th{text-align:center;min-width:3.2rem}.matrix th:first-child{text-align:left}
.dot{display:inline-block;width:.75em;height:.75em;border-radius:50%;margin-right:.4em}
svg{display:block;width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}
.wide{overflow-x:auto}.bad{color:#b00020}.good{color:#1b6e2d}
";

/// The page.
pub fn page(outcome: &LabOutcome) -> String {
    let chronicle = &outcome.chronicle;
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    // A page that may fetch nothing, should a name ever slip through the escaping.
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
    );
    let name = escaped(&chronicle.book.name);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        page,
        "<title>ropewalk lab: {name}</title><style>{STYLE}</style></head><body>"
    );
    head(&mut page, outcome);
    limits(&mut page, chronicle);
    pages(&mut page, chronicle);
    matrix(&mut page, chronicle);
    turns(&mut page, chronicle);
    table(&mut page, chronicle);
    page.push_str("</body></html>\n");
    page
}

/// Text from anywhere, as it may stand in HTML, between tags or in quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for letter in plain::escape(text).to_string().chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// The colour of a member everywhere on the page.
fn colour(chronicle: &Chronicle, who: usize) -> String {
    match chronicle.members[who].part.role {
        LabRole::Seed => "#444444".into(),
        LabRole::Liar => "#b00020".into(),
        // Steps of the golden angle: neighbours at the table look unlike.
        _ => {
            let turn = (who * 137 + 60) % 360;
            let light = if who.is_multiple_of(2) { 45 } else { 60 };
            format!("hsl({turn} 65% {light}%)")
        }
    }
}

fn dot(chronicle: &Chronicle, who: usize) -> String {
    format!(
        "<span class=\"dot\" style=\"background:{}\"></span>{}",
        colour(chronicle, who),
        escaped(&chronicle.members[who].part.name)
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn mib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

fn head(page: &mut String, outcome: &LabOutcome) {
    let chronicle = &outcome.chronicle;
    let (book, plan) = (&chronicle.book, &chronicle.plan);
    let verdict = match &outcome.verdict {
        LabVerdict::Everybody => {
            "<span class=\"good\">Everybody who stayed and gave has the book, byte for byte.</span>"
                .to_owned()
        }
        LabVerdict::Lost(pieces) => format!(
            "<span class=\"bad\">The book was lost: {} of its pages left with the last who had them.</span>",
            pieces.len()
        ),
        LabVerdict::Stuck => "<span class=\"bad\">Nothing moved any more.</span>".into(),
        LabVerdict::Stopped => "<span class=\"bad\">Stopped before the end.</span>".into(),
        LabVerdict::Different(_) => {
            "<span class=\"bad\">Some copies differ from the book.</span>".into()
        }
    };
    let up = plan.up.map_or_else(
        || "no limit of rate".to_owned(),
        |up| format!("{:.0} KiB a second each at most", up as f64 / 1024.0),
    );
    let _ = writeln!(
        page,
        "<h1>One book, {} reader{}</h1>\n<p>{verdict}</p>\n<p class=\"note\">{}: {} MiB in {} pages \
         (pieces) of {} KiB; {up}; story number {}.<br>info-hash {}</p>",
        plan.peers,
        if plan.peers == 1 { "" } else { "s" },
        escaped(&book.name),
        mib(book.bytes),
        book.pieces,
        book.piece_length / 1024,
        plan.rng,
        book.info_hash
    );
    if let Some(holes) = chronicle.holes() {
        let _ = writeln!(page, "<p class=\"bad\">{holes}</p>");
    }
}

fn limits(page: &mut String, chronicle: &Chronicle) {
    let Some(FluidLimits { fluid, http }) = chronicle.limits() else {
        return;
    };
    let (seeds, lines) = match chronicle.plan.seeds {
        1 => ("the seed", "the seed's line"),
        _ => ("the seeds", "the seeds' lines"),
    };
    let _ = writeln!(
        page,
        "<h2>How long it took</h2>\n<p>The fluid limit is what no swarm on these lines can beat: {seeds} \
         must send each page once, and all lines together must carry every copy. By HTTP {lines} \
         would carry every copy alone, and twice the readers would wait twice as long.</p>"
    );
    let time = chronicle.time().map(|time| time.as_secs_f64());
    let mut bars = Vec::new();
    bars.extend(time.map(|time| ("this swarm", time, "#2a6fb0")));
    bars.push(("fluid limit", fluid, "#6b9a5b"));
    bars.push(("plain HTTP", http, "#c77f2a"));
    drawing::bars(page, &bars);
}

fn pages(page: &mut String, chronicle: &Chronicle) {
    let seeds_hand = match chronicle.plan.seeds {
        1 => "The seed hands",
        _ => "The seeds hand",
    };
    let _ = writeln!(
        page,
        "<h2>The pages over time</h2>\n<p>For each reader, the pages of the book from top to bottom, and seconds from left to right; a bar \
         begins when the page came, and its colour says from whom. {seeds_hand} different pages to \
         different people, and they copy them from each other.</p>"
    );
    legend(page, chronicle);
    for (who, member) in chronicle.members.iter().enumerate() {
        if member.part.role.wants() {
            drawing::arrivals(page, chronicle, who);
        }
    }
}

fn legend(page: &mut String, chronicle: &Chronicle) {
    page.push_str("<p>");
    for who in 0..chronicle.members.len() {
        let _ = write!(page, "{} &nbsp; ", dot(chronicle, who));
    }
    page.push_str("</p>\n");
}

fn matrix(page: &mut String, chronicle: &Chronicle) {
    page.push_str(
        "<h2>Who gave what to whom</h2>\n<p>MiB, from the reader on the left to the one above.</p>\n\
         <div class=\"wide\"><table class=\"matrix\"><tr><th>gave</th>",
    );
    let takers = || 0..chronicle.members.len();
    let takers = || takers().filter(|who| chronicle.members[*who].part.role.wants());
    for who in takers() {
        let _ = write!(page, "<th>{}</th>", dot(chronicle, who));
    }
    page.push_str("</tr>\n");
    let most = chronicle.given.iter().flatten().max().copied();
    let most = most.unwrap_or_default().max(1);
    for (giver, row) in chronicle.given.iter().enumerate() {
        let _ = write!(page, "<tr><th>{}</th>", dot(chronicle, giver));
        for taker in takers() {
            let bytes = row[taker];
            let shade = bytes as f64 / most as f64 * 0.75;
            let text = if bytes == 0 { "·".into() } else { mib(bytes) };
            let text = if giver == taker { String::new() } else { text };
            let _ = write!(
                page,
                "<td style=\"background:rgba(42,111,176,{shade:.2})\">{text}</td>"
            );
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn turns(page: &mut String, chronicle: &Chronicle) {
    page.push_str(
        "<h2>Whom each served</h2>\n<p>A bar while the one on the left had unchoked the other, in the other's \
         colour: only then may it ask for pages. It ends with a choke, or when one of them leaves.</p>\n",
    );
    for who in 0..chronicle.members.len() {
        drawing::turns(page, chronicle, who);
    }
}

fn table(page: &mut String, chronicle: &Chronicle) {
    page.push_str(
        "<h2>In the end</h2>\n<div class=\"wide\"><table><tr><th>who</th><th>part</th><th>pages</th><th>complete \
         after</th><th>gave MiB</th><th>took MiB</th><th>gave/book</th><th>wrong pages</th></tr>\n",
    );
    for (who, member) in chronicle.members.iter().enumerate() {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{}</td></tr>",
            dot(chronicle, who),
            member.part.role.name(),
            pages_of(member),
            when(chronicle, member),
            mib(member.given),
            mib(member.taken),
            member.given as f64 / chronicle.book.bytes.max(1) as f64,
            member.wrong
        );
    }
    page.push_str("</table></div>\n");
}

fn pages_of(member: &Member) -> String {
    match member.part.role {
        LabRole::Liar => "none that is right".into(),
        _ => member.count.to_string(),
    }
}

fn when(chronicle: &Chronicle, member: &Member) -> String {
    if let Some(left) = member.left {
        return format!(
            "left after {}",
            seconds(left.saturating_sub(chronicle.opened))
        );
    }
    match member.complete {
        Some(at) if member.part.role.wants() => seconds(at.saturating_sub(chronicle.opened)),
        None => "never".into(),
        Some(_) => "·".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lab::chronicle::{ChokeChange, small};

    fn told() -> LabOutcome {
        let at = Duration::from_secs;
        let mut chronicle = small();
        chronicle.book.name = "<script>alert('\u{202e}&\"')</script>".into();
        chronicle.members[1].part.name = "A<b>\"da\"".into();
        chronicle.gives(0, 1, 2, 16_384, at(1));
        chronicle.verified(1, 2, at(1));
        for (open, time) in [(true, 1), (false, 3)] {
            let (who, whom) = (0, 1);
            let at = at(time);
            chronicle.turned(ChokeChange {
                at,
                who,
                whom,
                open,
                said: true,
            });
        }
        chronicle.ended = at(4);
        LabOutcome {
            chronicle,
            verdict: LabVerdict::Lost(vec![0, 1]),
        }
    }

    #[test]
    fn names_are_text_and_never_tags() {
        let page = page(&told());
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("A<b>") && !page.contains("\"da\""));
        assert!(!page.contains('\u{202e}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;\\u{202e}&amp;&quot;&#39;)"));
        assert!(page.contains("A&lt;b&gt;&quot;da&quot;"));
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let page = page(&told());
        for way in [
            "http://", "https://", "src=", "href=", "url(", "@import", "<script",
        ] {
            assert!(!page.contains(way), "{way}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn the_page_has_the_arrival_the_gift_and_the_turn() {
        let page = page(&told());
        assert_eq!(page.matches("page 2 from Seed").count(), 1);
        assert!(page.contains(">0.02</td>"));
        assert_eq!(page.matches("class=\"turn\"").count(), 1);
    }

    #[test]
    fn an_empty_story_makes_a_page_as_well() {
        let outcome = LabOutcome {
            chronicle: small(),
            verdict: LabVerdict::Stopped,
        };
        assert!(!page(&outcome).contains("NaN"));
    }
}
