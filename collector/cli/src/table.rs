//! Lists for people and for programs: aligned columns with a little colour, and CSV of the exact values.

/// Spaces between columns.
const GAP: usize = 2;
/// What is left of the last column, however narrow the terminal.
const LAST_COLUMN_MIN: usize = 10;

/// How a cell stands out. Colour never stands alone: the text says the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As the rest.
    #[default]
    Plain,
    /// Not important.
    Faint,
    /// Look today.
    Amber,
    /// Now.
    Red,
}

impl Tone {
    /// The text in this tone, where colour is wanted.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        let code = match self {
            Tone::Plain => return text.to_owned(),
            Tone::Faint => "2",
            Tone::Amber => "33",
            Tone::Red => "1;31",
        };
        if color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One value: what people read, and what CSV holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    exact: String,
    tone: Tone,
}

impl Cell {
    /// The same for people and programs.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { exact: text.clone(), text, tone: Tone::Plain }
    }

    /// Other words for people than for programs.
    pub(crate) fn with_exact(text: impl Into<String>, exact: impl std::fmt::Display) -> Self {
        Self { text: text.into(), exact: exact.to_string(), tone: Tone::Plain }
    }

    /// As a value that may be absent: a dash for people, nothing for programs.
    pub(crate) fn maybe<T: std::fmt::Display>(value: Option<T>, text: impl FnOnce(&T) -> String) -> Self {
        match value {
            Some(value) => Self::with_exact(text(&value), value),
            None => Self::with_exact("–", "").tone(Tone::Faint),
        }
    }

    /// The same in a tone.
    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// A column's heading for people and its name for programs.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    title: String,
    key: String,
    right: bool,
}

impl Column {
    /// A column of text.
    pub(crate) fn left(title: impl Into<String>, key: impl Into<String>) -> Self {
        Self { title: title.into(), key: key.into(), right: false }
    }

    /// A column of numbers.
    pub(crate) fn right(title: impl Into<String>, key: impl Into<String>) -> Self {
        Self { right: true, ..Self::left(title, key) }
    }
}

/// Rows under columns, and a line below them.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    summary: String,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new(), summary: String::new() }
    }

    /// Adds a row; one cell a column.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Sets the line below.
    pub(crate) fn summary(mut self, text: impl Into<String>) -> Self {
        self.summary = text.into();
        self
    }

    /// For people. A table without rows is its summary. On a terminal of `columns` the last column is cut to fit.
    pub(crate) fn to_text(&self, color: bool, columns: Option<usize>) -> String {
        let mut out = String::new();
        if !self.rows.is_empty() {
            let titles: Vec<Cell> =
                self.columns.iter().map(|column| Cell::new(&*column.title).tone(Tone::Faint)).collect();
            let rows = || std::iter::once(&titles).chain(&self.rows);
            let mut widths: Vec<usize> = (0..self.columns.len())
                .map(|at| rows().map(|row| row.get(at).map_or(0, |cell| width(&cell.text))).max().unwrap_or(0))
                .collect();
            if let (Some(columns), Some((last, others))) = (columns, widths.split_last_mut()) {
                let left = columns.saturating_sub(others.iter().map(|width| width + GAP).sum());
                *last = (*last).min(left.max(LAST_COLUMN_MIN));
            }
            for row in rows() {
                out.push_str(&self.line(row, &widths, color));
                out.push('\n');
            }
        }
        if !self.summary.is_empty() {
            out.push_str(&self.summary);
            out.push('\n');
        }
        out
    }

    /// For programs, as RFC 4180 with line feeds.
    pub(crate) fn to_csv(&self) -> String {
        let mut out = csv_line(self.columns.iter().map(|column| &*column.key));
        for row in &self.rows {
            out.push_str(&csv_line(row.iter().map(|cell| &*cell.exact)));
        }
        out
    }

    fn line(&self, row: &[Cell], widths: &[usize], color: bool) -> String {
        let mut line = String::new();
        let mut gap = 0;
        for ((cell, column), total) in row.iter().zip(&self.columns).zip(widths) {
            let text = cut(&one_line(&cell.text), *total);
            let pad = total - width(&cell.text).min(*total);
            let before = gap + if column.right { pad } else { 0 };
            if !text.is_empty() {
                line.push_str(&" ".repeat(before));
                line.push_str(&cell.tone.paint(&text, color));
                gap = GAP + if column.right { 0 } else { pad };
            } else {
                gap += GAP + total;
            }
        }
        line
    }
}

/// One line of CSV with its line feed.
pub(crate) fn csv_line<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let quoted = values.map(|value| {
        if value.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value.to_owned()
        }
    });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}

/// The text on one line and without control characters, which a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text in at most so many columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Columns that a terminal gives the text; ours are all of width one.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![Column::left("HOST", "host"), Column::left("NOTE", "note"), Column::right("CPU", "cpu")];
        let mut table = Table::new(columns);
        table.push(vec![Cell::new("db-1"), Cell::default(), Cell::with_exact("12%", 0.1234)]);
        table.push(vec![
            Cell::new("lobby-15"),
            Cell::new("a \"b\",\nc").tone(Tone::Red),
            Cell::maybe(None::<f64>, f64::to_string),
        ]);
        table.summary("2 hosts")
    }

    #[test]
    fn columns_are_aligned() {
        insta::assert_snapshot!(table().to_text(false, None), @r#"
        HOST      NOTE      CPU
        db-1                12%
        lobby-15  a "b", c    –
        2 hosts
        "#);
        let empty = Table::new(vec![Column::left("A", "a")]).summary("0 hosts");
        assert_eq!(empty.to_text(false, None), "0 hosts\n");
        let mut long = Table::new(vec![Column::left("A", "a"), Column::left("B", "b")]);
        long.push(vec![Cell::new("x".repeat(9)), Cell::new("y".repeat(99))]);
        insta::assert_snapshot!(long.to_text(false, Some(30)), @r"
        A          B
        xxxxxxxxx  yyyyyyyyyyyyyyyyyy…
        ");
    }

    #[test]
    fn colour_only_where_it_is_wanted_and_control_characters_never() {
        assert!(table().to_text(true, None).contains("\x1b[1;31ma \"b\", c\x1b[0m"));
        let mut table = Table::new(vec![Column::left("A", "a")]);
        table.push(vec![Cell::new("x\x1b[2Jy")]);
        assert!(!table.to_text(false, None).contains('\x1b'));
    }

    #[test]
    fn csv_is_exact() {
        insta::assert_snapshot!(table().to_csv(), @r#"
        host,note,cpu
        db-1,,0.1234
        lobby-15,"a ""b"",
        c",
        "#);
    }
}
