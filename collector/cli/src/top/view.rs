//! The screen of `pitwatch top` as lines of text: as many and as wide as the terminal has.

use super::model::{Mode, Model};
use crate::answers::Host;
use crate::commands::{Screen, full_tone, state_mark};
use crate::plot::spark_of;
use crate::table::{Tone, cut, one_line};
use crate::units::{Base, Unit, percent};

/// Columns of a host's name, and of a state with its mark.
const NAME_MIN: usize = 8;
const NAME_MAX: usize = 24;
const STATE: usize = 10;
const SHARE: usize = 4;
const NETWORK: usize = 9;
const SINCE: usize = 6;
/// Columns of a trend, the smaller where the terminal is narrow.
const TREND: usize = 10;
const TREND_WIDE: usize = 20;
/// From this width on there are trends of memory and network, and since when.
const WIDE: usize = 110;
/// Lines that are no hosts.
const AROUND: usize = 3;

const HELP: &str = "\
  ↑ ↓  j k       choose a host            Home g, End G   first, last
  PgUp PgDn      a page                   Enter           open the host: who works on it?
  /              filter by name, label, state; Esc takes the filter away
  s              sort: worst, name, CPU, memory, disk, network
  q  Ctrl-C      quit

  The trend beside CPU is of the last 10 minutes, up to 100%. Wide terminals (110 columns) have more of them.
  ✖ alerting   … silent: no sample for a minute   ✔ well

  any key goes back";

/// The whole screen of `(columns, rows)`.
pub(super) fn frame(model: &Model, (columns, rows): (usize, usize), screen: &Screen) -> Vec<String> {
    let body = rows.saturating_sub(AROUND).max(1);
    let mut lines = vec![headline(model, columns, screen)];
    match &model.mode {
        Mode::List | Mode::Filter => {
            let shown = model.shown();
            let chosen = model.chosen_at(&shown);
            let from = (chosen + 1).saturating_sub(body);
            lines.push(titles(&shown, columns, screen));
            let visible = shown.iter().enumerate().skip(from).take(body);
            lines.extend(visible.map(|(at, host)| row(host, model, &shown, columns, at == chosen, screen)));
            if shown.is_empty() {
                lines.push(nothing(model).to_owned());
            }
        }
        Mode::Help => lines.extend(HELP.lines().map(|line| cut(line, columns))),
        Mode::Host { lines: page, from } => {
            lines.extend(page.iter().skip(*from).take(body + 1).map(|line| clip(line, columns)));
        }
    }
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), String::new());
    lines.push(footer(model, columns, screen));
    lines
}

/// Every host once, where there is no terminal.
pub(super) fn whole(model: &Model, screen: &Screen) -> String {
    let shown = model.shown();
    let mut lines = vec![titles(&shown, screen.width, screen)];
    lines.extend(shown.iter().map(|host| row(host, model, &shown, screen.width, false, screen)));
    if shown.is_empty() {
        lines = vec![nothing(model).to_owned()];
    }
    lines.push(counts(model));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn nothing(model: &Model) -> &'static str {
    match model.total() {
        0 => "  no hosts: enrol the first with the line that `pitwatch token create` prints",
        _ => "  no host fits the filter",
    }
}

fn counts(model: &Model) -> String {
    let kinds = ["well", "alerting", "silent"].map(|state| (model.count(state), state));
    let total = model.total();
    crate::commands::tally(format!("{total} {}", if total == 1 { "host" } else { "hosts" }), &kinds)
}

fn headline(model: &Model, columns: usize, screen: &Screen) -> String {
    let right = screen.clock.format("%H:%M:%S", model.at_ms);
    let left = format!("pitwatch   {}", counts(model));
    let gap = columns.saturating_sub(left.chars().count() + right.len()).max(1);
    let line = cut(&format!("{left}{}{right}", " ".repeat(gap)), columns);
    bold(&line, screen.color)
}

fn footer(model: &Model, columns: usize, screen: &Screen) -> String {
    if let Some(trouble) = &model.trouble {
        let since = screen.clock.age(model.at_ms);
        let text = cut(&one_line(&format!("✖ {trouble}; shown is what was {since} ago, asking on")), columns);
        return Tone::Red.paint(&text, screen.color);
    }
    let text = match &model.mode {
        Mode::Filter => return cut(&format!("/{}▏  Enter keeps it, Esc takes it away", model.filter), columns),
        Mode::List if !model.filter.is_empty() => {
            format!(
                "{} of {} fit \"{}\" · Esc shows all · ? help · q quit",
                model.shown().len(),
                model.total(),
                model.filter
            )
        }
        Mode::List => format!("↑↓ choose · Enter open · / filter · s sort: {} · ? help · q quit", model.sort.word()),
        Mode::Help => "any key goes back".to_owned(),
        Mode::Host { .. } => "↑↓ scroll · Esc goes back".to_owned(),
    };
    Tone::Faint.paint(&cut(&one_line(&text), columns), screen.color)
}

/// Widths that depend on the terminal and on the names.
struct Widths {
    name: usize,
    trend: usize,
    wide: bool,
}

impl Widths {
    fn of(shown: &[&Host], columns: usize) -> Self {
        let wide = columns >= WIDE;
        let longest = shown.iter().map(|host| host.name.chars().count()).max().unwrap_or(0);
        // A narrow terminal has no more for names than what the rest leaves.
        let most = if wide { NAME_MAX } else { NAME_MAX.min(columns.saturating_sub(60)).max(NAME_MIN) };
        Self { name: longest.clamp(NAME_MIN, most), trend: if wide { TREND_WIDE } else { TREND }, wide }
    }
}

fn titles(shown: &[&Host], columns: usize, screen: &Screen) -> String {
    let Widths { name, trend, wide } = Widths::of(shown, columns);
    let blank = if wide { " ".repeat(trend + 1) } else { String::new() };
    let mut line = format!("  {:name$}  {:STATE$}  {:>SHARE$}", "HOST", "STATE", "CPU");
    line += &format!(" {:trend$}  {:>SHARE$}{blank}  {:>SHARE$}  {:>NETWORK$}{blank}", "10 MIN", "MEM", "DISK", "NET");
    if wide {
        line += &format!("  {:SINCE$}", "SINCE");
    }
    line += "  ALERTS";
    Tone::Faint.paint(&cut(&line, columns), screen.color)
}

fn row(host: &Host, model: &Model, shown: &[&Host], columns: usize, chosen: bool, screen: &Screen) -> String {
    let Widths { name, trend, wide } = Widths::of(shown, columns);
    let share = |ratio: Option<f64>| format!("{:>SHARE$}", ratio.map_or("–".to_owned(), percent));
    let line = |values: Option<&Vec<f64>>, most: Option<f64>| {
        format!("{:trend$}", values.map(|values| spark_of(values, trend, most)).unwrap_or_default())
    };
    let (mark, tone) = state_mark(&host.state);
    let state = cut(&format!("{mark} {}", host.state), STATE);
    let network = Unit { base: Base::NetworkBytes, per_second: true };
    let network = host.network_bytes_per_second.map_or("–".to_owned(), |rate| network.text(rate, &screen.clock));
    let since = host.since_ms.map(|since| screen.clock.age(since)).unwrap_or_default();
    let alerts: Vec<&str> = host.alerts.iter().map(|alert| &*alert.name).collect();

    let mut out = Line { text: String::new(), left: columns, color: screen.color };
    out.push(if chosen { "▸ " } else { "  " }, Tone::Plain);
    let shown_name = format!("{:name$}  ", cut(&one_line(&host.name), name));
    if chosen {
        out.push_bold(&shown_name);
    } else {
        out.push(&shown_name, Tone::Plain);
    }
    out.push(&format!("{state:STATE$}  "), tone);
    out.push(&share(host.cpu_ratio), full_tone(host.cpu_ratio));
    out.push(&format!(" {}  ", line(model.trends.cpu.get(&host.name), Some(1.0))), Tone::Faint);
    out.push(&share(host.memory_ratio), full_tone(host.memory_ratio));
    if wide {
        out.push(&format!(" {}", line(model.trends.memory.get(&host.name), Some(1.0))), Tone::Faint);
    }
    out.push("  ", Tone::Plain);
    out.push(&share(host.disk_ratio), full_tone(host.disk_ratio));
    out.push(&format!("  {network:>NETWORK$}"), Tone::Plain);
    if wide {
        out.push(&format!(" {}", line(model.trends.network.get(&host.name), None)), Tone::Faint);
        out.push(&format!("  {:SINCE$}", cut(&since, SINCE)), Tone::Plain);
    }
    out.push("  ", Tone::Plain);
    out.push(&one_line(&alerts.join(" ")), tone);
    out.text
}

/// A line that is not wider than the terminal, whatever is put into it.
struct Line {
    text: String,
    /// Columns that are left.
    left: usize,
    color: bool,
}

impl Line {
    fn push(&mut self, text: &str, tone: Tone) {
        let text = self.take(text);
        self.text.push_str(&tone.paint(&text, self.color));
    }

    fn push_bold(&mut self, text: &str) {
        let text = self.take(text);
        self.text.push_str(&bold(&text, self.color));
    }

    /// As much of the text as there is room for.
    fn take(&mut self, text: &str) -> String {
        let text = if self.left == 0 { String::new() } else { cut(text, self.left) };
        self.left -= text.chars().count();
        text
    }
}

fn bold(text: &str, color: bool) -> String {
    if color && !text.is_empty() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// A line of a page, which may be coloured already, in at most so many columns.
fn clip(line: &str, columns: usize) -> String {
    let mut out = String::new();
    let (mut left, mut in_code) = (columns, false);
    for character in line.chars() {
        match (in_code, character) {
            (false, '\x1b') => in_code = true,
            (true, 'm') => in_code = false,
            (true, _) => {}
            (false, _) if left == 0 => continue,
            (false, _) => left -= 1,
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::model::{Trends, Wish};
    use super::super::terminal::Key;
    use super::*;
    use crate::answers::HostsData;
    use crate::clock::Clock;

    fn model() -> Model {
        let data: HostsData = serde_json::from_str(
            r#"{"hosts":[
                {"name":"db-eu-3","labels":{"role":"database"},"state":"alerting","alerts":[{"name":"DiskFull"}],
                 "since_ms":520000,"cpu_ratio":0.1234,"memory_ratio":0.64,"disk_ratio":0.91,"disk_mountpoint":"/data",
                 "network_bytes_per_second":41234567.8,"software":"0.3.1"},
                {"name":"rgs-us-11","labels":{"role":"game"},"state":"silent","alerts":[],"since_ms":760000,
                 "cpu_ratio":null,"memory_ratio":null,"disk_ratio":null,"disk_mountpoint":null,
                 "network_bytes_per_second":null,"software":"0.3.0"},
                {"name":"lobby-1","labels":{},"state":"well","alerts":[],"since_ms":null,"cpu_ratio":0.97,
                 "memory_ratio":0.31,"disk_ratio":0.4,"disk_mountpoint":"/","network_bytes_per_second":2e6,
                 "software":"0.3.1"}]}"#,
        )
        .unwrap();
        let mut model = Model::new(String::new());
        model.update(data.hosts, 1_000_000);
        let trend = |values: &[f64]| [("db-eu-3".to_owned(), values.to_vec())].into();
        model.trends =
            Trends { cpu: trend(&[0.1, 0.2, 0.5, 1.0]), memory: trend(&[0.6; 4]), network: trend(&[1.0, 2.0, 4.0]) };
        model
    }

    fn screen() -> Screen {
        Screen { clock: Clock::utc(1_000_000), color: false, width: 80, columns: None }
    }

    fn text(model: &Model, size: (usize, usize)) -> String {
        frame(model, size, &screen()).iter().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    #[test]
    fn a_small_terminal_has_it_all() {
        insta::assert_snapshot!(text(&model(), (80, 8)), @"
        pitwatch   3 hosts: 1 well, 1 alerting, 1 silent                        00:16:40
          HOST       STATE        CPU 10 MIN       MEM  DISK        NET  ALERTS
        ▸ db-eu-3    ✖ alerting   12% ▂▂▅█         64%   91%  41.2 MB/s  DiskFull
          rgs-us-11  … silent       –                –     –          –
          lobby-1    ✔ well       97%              31%   40%     2 MB/s


        ↑↓ choose · Enter open · / filter · s sort: worst · ? help · q quit
        ");
        assert!(frame(&model(), (80, 24), &screen()).len() == 24);
    }

    #[test]
    fn a_wide_terminal_has_more() {
        insta::assert_snapshot!(text(&model(), (140, 7)), @"
        pitwatch   3 hosts: 1 well, 1 alerting, 1 silent                                                                                    00:16:40
          HOST       STATE        CPU 10 MIN                 MEM                       DISK        NET                       SINCE   ALERTS
        ▸ db-eu-3    ✖ alerting   12% ▂▂▅█                   64% ▅▅▅▅                   91%  41.2 MB/s ▃▅█                   8 min   DiskFull
          rgs-us-11  … silent       –                          –                          –          –                       4 min
          lobby-1    ✔ well       97%                        31%                        40%     2 MB/s

        ↑↓ choose · Enter open · / filter · s sort: worst · ? help · q quit
        ");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_size_is_too_small() {
        for size in [(1, 1), (10, 3), (40, 10), (80, 24), (109, 5), (110, 5), (300, 100)] {
            let mut model = model();
            for key in [None, Some(Key::Char('?')), Some(Key::Escape), Some(Key::Char('/'))] {
                key.map(|key| model.key(key));
                let lines = frame(&model, size, &screen());
                assert_eq!(lines.len(), size.1);
                assert!(lines.iter().all(|line| line.chars().count() <= size.0), "{size:?}: {lines:#?}");
            }
        }
    }

    #[test]
    fn keys_choose_sort_filter_and_open() {
        let mut model = model();
        assert_eq!(model.key(Key::Enter), Some(Wish::Open("db-eu-3".to_owned())));
        model.key(Key::Down);
        assert_eq!(model.key(Key::Enter), Some(Wish::Open("rgs-us-11".to_owned())));
        // The chosen host stays chosen in another order.
        for _ in 0..2 {
            model.key(Key::Char('s'));
        }
        let order: Vec<&str> = model.shown().iter().map(|host| &*host.name).collect();
        assert_eq!(order, ["lobby-1", "db-eu-3", "rgs-us-11"]);
        assert_eq!(model.key(Key::Enter), Some(Wish::Open("rgs-us-11".to_owned())));
        for key in [Key::Char('/'), Key::Char('D'), Key::Char('A'), Key::Enter] {
            model.key(key);
        }
        assert_eq!(model.shown().len(), 1, "by a label's value, whatever the case");
        assert!(text(&model, (80, 6)).contains("1 of 3 fit \"DA\""));
        model.key(Key::Escape);
        assert_eq!(model.shown().len(), 3);
        model.open("a page\nof two lines\n");
        model.key(Key::Down);
        assert!(text(&model, (80, 6)).lines().nth(1).unwrap().starts_with("of two lines"));
        assert_eq!(model.key(Key::Char('q')), None, "q leaves the page first");
        assert_eq!(model.key(Key::Char('q')), Some(Wish::Quit));
    }

    #[test]
    fn trouble_is_said_and_names_have_no_control_characters() {
        let mut model = model();
        model.trouble = Some("cannot reach the collector".to_owned());
        let now = Screen { clock: Clock::utc(1_010_000), ..screen() };
        let last = frame(&model, (80, 6), &now).pop().unwrap();
        assert_eq!(last, "✖ cannot reach the collector; shown is what was 10 s ago, asking on");
        let mut hosts: Vec<Host> = model.shown().into_iter().cloned().collect();
        hosts[0].name = "x\u{1b}[2Jy".to_owned();
        model.update(hosts, 1_000_000);
        assert!(!text(&model, (80, 6)).contains('\u{1b}'));
    }
}
