//! Template text to nodes. Variables and functions are looked up here, so that a wrong name is found when the file
//! is loaded and not when the alert fires.

use super::{TemplateError, functions};
use crate::limits;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(Box<str>),
    Print(Pipeline),
    If {
        arms: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    With {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        pipeline: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// What a `define` of that name gives, with this as its data.
    Template {
        name: Box<str>,
        data: Option<Pipeline>,
    },
    Break,
    Continue,
}

/// A template's nodes, and those of its `define`s and `block`s by name.
pub(super) type Parsed = (Vec<Node>, Vec<(Box<str>, Vec<Node>)>);

/// Commands, each fed by the one before; the result may be given to variables.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<Box<str>>,
    /// `=` rather than `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    Variable(Box<str>),
    Function(&'static str),
    Field(Box<Operand>, Box<str>),
    Pipeline(Box<Pipeline>),
}

/// What ended a list of nodes.
enum Stop {
    OfText,
    End,
    Else,
    ElseIf(Pipeline),
}

pub(super) fn parse(text: &str) -> Result<Parsed, TemplateError> {
    let variables = ["", "labels", "value", "externalLabels", "externalURL"].map(Box::from).to_vec();
    whole(text, variables)
}

/// The template of a message, or a file of named ones: it has no variables of its own.
pub(super) fn parse_message(text: &str) -> Result<Parsed, TemplateError> {
    whole(text, vec!["".into()])
}

fn whole(text: &str, variables: Vec<Box<str>>) -> Result<Parsed, TemplateError> {
    let mut parser = Parser { text, at: 0, variables, depth: 0, ranges: 0, defines: Vec::new() };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::OfText => Ok((nodes, parser.defines)),
        Stop::End => Err(parser.error("{{ end }} without its {{ if }}, {{ with }} or {{ range }}")),
        Stop::Else | Stop::ElseIf(_) => Err(parser.error("{{ else }} without its {{ if }}")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    variables: Vec<Box<str>>,
    depth: usize,
    /// How many `range`s are open.
    ranges: usize,
    defines: Vec<(Box<str>, Vec<Node>)>,
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

impl<'a> Parser<'a> {
    fn error(&self, message: impl Into<String>) -> TemplateError {
        let from = self.text.floor_char_boundary(self.at.saturating_sub(20));
        let to = self.text.ceil_char_boundary((self.at + 20).min(self.text.len()));
        TemplateError::Syntax { message: message.into(), near: self.text[from..to].to_owned() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > limits::TEMPLATE_DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {}", limits::TEMPLATE_DEPTH_MAX)));
        }
        Ok(())
    }

    /// Text and actions up to `end`, `else` or the end of the text.
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop)> {
        self.deeper()?;
        let (mut nodes, scope) = (Vec::new(), self.variables.len());
        let mut trim = self.trimmed_behind();
        loop {
            let rest = self.rest();
            let open = rest.find("{{");
            let mut text = &rest[..open.unwrap_or(rest.len())];
            if trim {
                text = text.trim_start();
            }
            self.at += open.unwrap_or(rest.len());
            if open.is_none() {
                push_text(&mut nodes, text);
                break;
            }
            self.at += 2;
            if self.rest().starts_with('-') && self.rest()[1..].starts_with(char::is_whitespace) {
                self.at += 1;
                text = text.trim_end();
            }
            push_text(&mut nodes, text);
            if let Some(end) = self.action(&mut nodes)? {
                self.variables.truncate(scope);
                self.depth -= 1;
                return Ok((nodes, end));
            }
            trim = self.trimmed_behind();
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok((nodes, Stop::OfText))
    }

    /// Whether the action just closed trims the text behind it.
    fn trimmed_behind(&self) -> bool {
        self.text[..self.at].ends_with("-}}")
    }

    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<Stop>> {
        self.skip_space();
        if self.eat("/*") {
            let Some(length) = self.rest().find("*/") else { return Err(self.error("a comment without */")) };
            self.at += length + 2;
            self.close()?;
            return Ok(None);
        }
        let start = self.at;
        let word = self.word();
        match word {
            "end" => self.close().map(|()| Some(Stop::End)),
            "else" => self.else_arm().map(Some),
            "if" => self.if_block().map(|node| nodes.push(node)).map(|()| None),
            "with" | "range" => self.block(word == "range").map(|node| nodes.push(node)).map(|()| None),
            "define" if self.depth == 1 => self.define().map(|_| None),
            "define" => Err(self.error("{{ define }} stands within a block: it belongs on the outside")),
            "template" => self.template().map(|node| nodes.push(node)).map(|()| None),
            "block" => self.named_block().map(|node| nodes.push(node)).map(|()| None),
            "break" | "continue" if self.ranges == 0 => Err(self.error(format!("{{{{ {word} }}}} outside of a range"))),
            "break" | "continue" => {
                nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                self.close().map(|()| None)
            }
            _ => {
                self.at = start;
                let pipeline = self.pipeline()?;
                self.close()?;
                nodes.push(Node::Print(pipeline));
                Ok(None)
            }
        }
    }

    /// `define "name"`, its body, and its `end`.
    fn define(&mut self) -> Result<Box<str>> {
        let name = self.name()?;
        self.close()?;
        self.body(name.clone())?;
        Ok(name)
    }

    /// The body of a `define` or `block`, which sees nothing but its own data.
    fn body(&mut self, name: Box<str>) -> Result<()> {
        let outside = std::mem::replace(&mut self.variables, vec!["".into()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (nodes, end) = self.nodes()?;
        if !matches!(end, Stop::End) {
            return Err(self.error(format!("{name:?} without its {{{{ end }}}}")));
        }
        self.variables = outside;
        self.ranges = ranges;
        self.defines.push((name, nodes));
        Ok(())
    }

    /// `template "name"`, with its data or without.
    fn template(&mut self) -> Result<Node> {
        let name = self.name()?;
        self.skip_space();
        let data = if self.closes() { None } else { Some(self.pipeline()?) };
        self.close()?;
        Ok(Node::Template { name, data })
    }

    /// `block "name" data`: a `define` that is used where it stands.
    fn named_block(&mut self) -> Result<Node> {
        let name = self.name()?;
        let data = Some(self.pipeline()?);
        self.close()?;
        self.body(name.clone())?;
        Ok(Node::Template { name, data })
    }

    fn name(&mut self) -> Result<Box<str>> {
        self.skip_space();
        match self.rest().chars().next() {
            Some('"') => self.quoted(),
            Some('`') => self.raw(),
            _ => Err(self.error("a template's name is missing, in quotes")),
        }
    }

    fn else_arm(&mut self) -> Result<Stop> {
        self.skip_space();
        let start = self.at;
        if self.word() == "if" {
            let pipeline = self.pipeline()?;
            self.close()?;
            return Ok(Stop::ElseIf(pipeline));
        }
        self.at = start;
        self.close()?;
        Ok(Stop::Else)
    }

    fn if_block(&mut self) -> Result<Node> {
        let scope = self.variables.len();
        let mut condition = self.pipeline()?;
        self.close()?;
        let (mut arms, mut otherwise) = (Vec::new(), Vec::new());
        loop {
            let (body, end) = self.nodes()?;
            arms.push((condition, body));
            match end {
                Stop::ElseIf(pipeline) => condition = pipeline,
                Stop::Else => {
                    otherwise = self.last_arm("if")?;
                    break;
                }
                Stop::End => break,
                Stop::OfText => return Err(self.error("{{ if }} without its {{ end }}")),
            }
        }
        self.variables.truncate(scope);
        Ok(Node::If { arms, otherwise })
    }

    fn block(&mut self, range: bool) -> Result<Node> {
        let (word, scope) = (if range { "range" } else { "with" }, self.variables.len());
        let pipeline = self.pipeline()?;
        self.close()?;
        self.ranges += usize::from(range);
        let (body, end) = self.nodes()?;
        self.ranges -= usize::from(range);
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Else => self.last_arm(word)?,
            Stop::ElseIf(_) | Stop::OfText => {
                return Err(self.error(format!("{{{{ {word} }}}} without its {{{{ end }}}}")));
            }
        };
        self.variables.truncate(scope);
        Ok(if range { Node::Range { pipeline, body, otherwise } } else { Node::With { pipeline, body, otherwise } })
    }

    fn last_arm(&mut self, word: &str) -> Result<Vec<Node>> {
        match self.nodes()? {
            (nodes, Stop::End) => Ok(nodes),
            _ => Err(self.error(format!("{{{{ else }}}} of {word} without its {{{{ end }}}}"))),
        }
    }

    /// `}}` or ` -}}`.
    fn close(&mut self) -> Result<()> {
        self.skip_space();
        if self.eat("}}") || (self.text[..self.at].ends_with(char::is_whitespace) && self.eat("-}}")) {
            return Ok(());
        }
        Err(self.error("expected }}"))
    }

    fn closes(&self) -> bool {
        self.rest().starts_with("}}") || self.rest().starts_with("-}}")
    }

    /// A name of letters, digits and `_`, or nothing.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn pipeline(&mut self) -> Result<Pipeline> {
        self.deeper()?;
        let (variables, assigns) = self.declaration()?;
        let mut commands = Vec::new();
        loop {
            commands.push(self.command()?);
            self.skip_space();
            if !self.eat("|") {
                break;
            }
        }
        if !assigns {
            // Declared behind the pipeline: its own commands do not see them.
            self.variables.extend(variables.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipeline { variables, assigns, commands })
    }

    /// `$x :=`, `$x =`, `$i, $x :=`, or nothing.
    fn declaration(&mut self) -> Result<(Vec<Box<str>>, bool)> {
        let start = self.at;
        let mut names: Vec<Box<str>> = Vec::new();
        loop {
            self.skip_space();
            if names.len() == 2 || !self.eat("$") {
                break;
            }
            names.push(self.word().into());
            self.skip_space();
            if self.eat(":=") {
                return Ok((names, false));
            }
            if self.rest().starts_with('=') {
                self.at += 1;
                if let Some(unknown) = names.iter().find(|name| !self.variables.contains(name)) {
                    return Err(self.error(format!("variable ${unknown} is not declared")));
                }
                return Ok((names, true));
            }
            if !self.eat(",") {
                break;
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if self.closes() || self.rest().starts_with(['|', ')']) {
                break;
            }
            operands.push(self.operand()?);
            let rest = self.rest();
            if !rest.starts_with(char::is_whitespace) && !self.closes() && !rest.starts_with(['|', ')']) {
                return Err(self.error("expected a space, | or }}"));
            }
        }
        match operands.as_slice() {
            [] => Err(self.error("a value or function is missing")),
            [Operand::Function(_) | Operand::Field(..), ..] | [_] => Ok(operands),
            _ => Err(self.error("only a function takes arguments")),
        }
    }

    fn operand(&mut self) -> Result<Operand> {
        let rest = self.rest();
        let mut operand = match rest.chars().next() {
            Some('"') => Operand::Text(self.quoted()?),
            Some('`') => Operand::Text(self.raw()?),
            Some('(') => {
                self.at += 1;
                let pipeline = self.pipeline()?;
                self.skip_space();
                if !self.eat(")") {
                    return Err(self.error("expected )"));
                }
                Operand::Pipeline(Box::new(pipeline))
            }
            Some('$') => {
                self.at += 1;
                let name = self.word();
                if !self.variables.iter().any(|known| &**known == name) {
                    return Err(self.error(format!("variable ${name} is not declared")));
                }
                Operand::Variable(name.into())
            }
            Some('.') if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            Some('.') => {
                if !rest[1..].starts_with(|c: char| c == '_' || c.is_alphabetic()) {
                    self.at += 1;
                }
                Operand::Dot
            }
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => self.number()?,
            _ => self.named()?,
        };
        while self.rest().starts_with('.') {
            self.at += 1;
            let name = self.word();
            if name.is_empty() {
                return Err(self.error("a field's name is missing after the dot"));
            }
            operand = Operand::Field(Box::new(operand), name.into());
        }
        Ok(operand)
    }

    fn named(&mut self) -> Result<Operand> {
        let name = self.word();
        Ok(match name {
            "true" => Operand::Bool(true),
            "false" => Operand::Bool(false),
            "nil" => Operand::Nil,
            "" => return Err(self.error("unexpected character")),
            name => match functions::NAMES.iter().find(|known| **known == name) {
                Some(known) => Operand::Function(known),
                None => return Err(self.error(format!("there is no function {name:?}"))),
            },
        })
    }

    fn number(&mut self) -> Result<Operand> {
        let rest = self.rest();
        let mut length = 0;
        for (at, c) in rest.char_indices() {
            let sign_of_exponent = matches!(c, '+' | '-') && (at == 0 || rest[..at].ends_with(['e', 'E']));
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || sign_of_exponent) {
                break;
            }
            length = at + 1;
        }
        let text = rest[..length].replace('_', "");
        let number = text.parse().map(Operand::Int).or_else(|_| text.parse().map(Operand::Float));
        let number = number.map_err(|_| self.error(format!("{text:?} is not a number")))?;
        self.at += length;
        Ok(number)
    }

    fn raw(&mut self) -> Result<Box<str>> {
        let rest = &self.rest()[1..];
        let Some(length) = rest.find('`') else { return Err(self.error("a raw text without its closing `")) };
        self.at += length + 2;
        Ok(rest[..length].into())
    }

    fn quoted(&mut self) -> Result<Box<str>> {
        let mut text = String::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 2;
                    return Ok(text.into());
                }
                '\n' => break,
                '\\' => match chars.next().map(|(_, escaped)| escaped) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    other => {
                        return Err(self.error(format!("unknown escape {other:?} (\\n \\t \\r \\\\ \\\" are known)")));
                    }
                },
                c => text.push(c),
            }
        }
        Err(self.error("a text without its closing \""))
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.into()));
    }
}
