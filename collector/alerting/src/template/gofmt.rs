//! Numbers and `printf` as Go's fmt and strconv print them.

use super::functions::Value;
use crate::limits;

/// `%g` with the fewest digits that say the value: what `{{ $value }}` prints.
pub(super) fn shortest(value: f64) -> String {
    general(value, None)
}

/// `%.{digits}g`, or the shortest form.
pub(super) fn general(value: f64, digits: Option<usize>) -> String {
    if let Some(word) = not_finite(value) {
        return word.to_owned();
    }
    let scientific = match digits {
        Some(digits) => format!("{:.*e}", digits.max(1) - 1, value),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let mut figures: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    figures.truncate(figures.trim_end_matches('0').len().max(1));
    // Go: the exponent form below 1e-4 and from the precision on; the shortest form counts as precision 6.
    let limit = digits.map_or(SHORTEST_EXPONENT, |digits| i32::try_from(digits.max(1)).unwrap_or(i32::MAX));
    if exponent < -4 || exponent >= limit {
        let point = if figures.len() > 1 { "." } else { "" };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{}{point}{}e{mark}{:02}", &figures[..1], &figures[1..], exponent.abs());
    }
    let Ok(whole) = usize::try_from(exponent + 1) else { return sign.to_owned() + &small(&figures, exponent) };
    match whole {
        0 => sign.to_owned() + &small(&figures, exponent),
        whole if figures.len() <= whole => format!("{sign}{figures}{}", "0".repeat(whole - figures.len())),
        whole => format!("{sign}{}.{}", &figures[..whole], &figures[whole..]),
    }
}

/// The exponent from which `%v` and `%g` without a precision change to the exponent form.
const SHORTEST_EXPONENT: i32 = 6;

/// A value below 1 in the positional form.
fn small(figures: &str, exponent: i32) -> String {
    let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
    format!("0.{}{figures}", "0".repeat(zeros))
}

fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        v if v.is_nan() => Some("NaN"),
        v if v == f64::INFINITY => Some("+Inf"),
        v if v == f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// Go's `Sprintf` for the verbs that templates use.
pub(super) fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let (verb, behind) = Verb::parse(rest)?;
        rest = behind;
        let argument = arguments.next().ok_or_else(|| format!("printf {format:?}: no value for %{}", verb.letter))?;
        out.push_str(&verb.print(argument)?);
        if out.len() > limits::TEMPLATE_OUTPUT_MAX_BYTES {
            return Err(format!("printf gives more than {} bytes", limits::TEMPLATE_OUTPUT_MAX_BYTES));
        }
    }
    out.push_str(rest);
    match arguments.next() {
        None => Ok(out),
        Some(_) => Err(format!("printf {format:?}: more values than verbs")),
    }
}

#[derive(Default)]
struct Verb {
    plus: bool,
    minus: bool,
    zero: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

impl Verb {
    fn parse(text: &str) -> Result<(Self, &str), String> {
        let mut verb = Self::default();
        let mut rest = text;
        loop {
            match rest.chars().next() {
                Some('+') => verb.plus = true,
                Some('-') => verb.minus = true,
                Some('0') => verb.zero = true,
                Some(' ') => verb.space = true,
                Some('#') => return Err("printf: the flag # is not supported".to_owned()),
                _ => break,
            }
            rest = &rest[1..];
        }
        (verb.width, rest) = number(rest)?;
        if let Some(behind) = rest.strip_prefix('.') {
            let (precision, behind) = number(behind)?;
            (verb.precision, rest) = (Some(precision), behind);
        }
        let mut chars = rest.chars();
        verb.letter = chars.next().ok_or_else(|| format!("printf: %{text} has no verb"))?;
        Ok((verb, chars.as_str()))
    }

    fn print(&self, value: &Value) -> Result<String, String> {
        let wrong = || format!("printf: %{} does not print {}", self.letter, value.kind());
        let plain = match (self.letter, value) {
            ('v', Value::Float(v)) => general(*v, self.precision),
            ('g', Value::Float(v)) => general(*v, self.precision),
            ('f' | 'F', Value::Float(v)) => {
                not_finite(*v).map_or_else(|| format!("{:.*}", self.precision.unwrap_or(6), v), str::to_owned)
            }
            ('e', Value::Float(v)) => {
                not_finite(*v).map_or_else(|| exponent(*v, self.precision.unwrap_or(6)), str::to_owned)
            }
            ('d' | 'v', Value::Int(v)) => v.to_string(),
            ('x', Value::Int(v)) => format!("{v:x}"),
            ('t' | 'v', Value::Bool(v)) => v.to_string(),
            ('q', Value::Text(text)) => format!("{:?}", &**text),
            ('s' | 'v', Value::Text(text)) => {
                self.precision.map_or_else(|| text.to_string(), |most| text.chars().take(most).collect())
            }
            ('s' | 'v', Value::Labels(_) | Value::Nil | Value::Samples(_) | Value::Sample(_)) => value.to_string(),
            ('s', Value::Duration(_)) | ('v', Value::Duration(_) | Value::Time(_)) => value.to_string(),
            ('s', Value::Time(_)) => value.to_string(),
            _ => return Err(wrong()),
        };
        Ok(self.pad(plain, matches!(value, Value::Float(_) | Value::Int(_))))
    }

    fn pad(&self, mut text: String, number: bool) -> String {
        if number && !text.starts_with(['-', '+']) {
            if self.plus {
                text.insert(0, '+');
            } else if self.space {
                text.insert(0, ' ');
            }
        }
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if self.zero && number {
            let sign = usize::from(text.starts_with(['-', '+', ' ']));
            text.insert_str(sign, &"0".repeat(missing));
            return text;
        }
        " ".repeat(missing) + &text
    }
}

fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn number(text: &str) -> Result<(usize, &str), String> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return Ok((0, text));
    }
    match text[..length].parse() {
        Ok(number) if number <= limits::PRINTF_WIDTH_MAX => Ok((number, &text[length..])),
        _ => Err(format!("printf: width or precision over {}", limits::PRINTF_WIDTH_MAX)),
    }
}
