//! YAML as a tree that keeps each scalar's own text and each node's line, within limits.
//!
//! Not serde: a rule file's mistakes are to be reported all at once, each with its line, and a label written `1.20`
//! must stay `1.20`.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};

use crate::limits;

/// A node and the line (from 1) on which it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar's text, as written or unquoted.
    Text(String),
    /// Nodes in order.
    List(Vec<Node>),
    /// Pairs in the order written: key, its line, value. A key may stand twice; the reader says so.
    Map(Vec<(String, usize, Node)>),
}

impl Value {
    /// What the node is, for error messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The one document of `text`; an empty file is `Null`.
///
/// # Errors
/// A line and what is wrong there.
pub fn parse(text: &str) -> Result<Node, (usize, String)> {
    if text.len() > limits::RULE_FILE_MAX_BYTES {
        return Err((1, format!("{} bytes, more than {}", text.len(), limits::RULE_FILE_MAX_BYTES)));
    }
    let mut builder = Builder::default();
    let mut documents = 0;
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| (error.marker().line(), error.info().to_string()))?;
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err((line, "a second document: such a file has one".to_owned()));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Text(text.into_owned()) };
                builder.finished(Node { line, value }, anchor, 1)?;
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Open::List(Vec::new()), line, anchor)?,
            Event::MappingStart(_, anchor, _) => builder.open(Open::Map(Vec::new(), None), line, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
            Event::Alias(anchor) => builder.alias(anchor, line)?,
            _ => {}
        }
    }
    Ok(builder.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

enum Open {
    List(Vec<Node>),
    Map(Vec<(String, usize, Node)>, Option<(String, usize)>),
}

struct Frame {
    open: Open,
    line: usize,
    anchor: usize,
    nodes: usize,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    /// Anchored nodes with the number of nodes each stands for.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn open(&mut self, open: Open, line: usize, anchor: usize) -> Result<(), (usize, String)> {
        if self.stack.len() >= limits::YAML_DEPTH_MAX {
            return Err((line, format!("nested deeper than {}", limits::YAML_DEPTH_MAX)));
        }
        if let Some(Frame { open: Open::Map(_, None), .. }) = self.stack.last() {
            return Err((line, "a map's key must be a text".to_owned()));
        }
        self.stack.push(Frame { open, line, anchor, nodes: 1 });
        Ok(())
    }

    fn close(&mut self) -> Result<(), (usize, String)> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::List(items) => Value::List(items),
            Open::Map(pairs, _) => Value::Map(pairs),
        };
        // Its children were counted as they came.
        self.nodes -= frame.nodes - 1;
        self.finished(Node { line: frame.line, value }, frame.anchor, frame.nodes)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), (usize, String)> {
        match self.anchors.get(&anchor).cloned() {
            // Checked before the copy is kept: aliases of aliases must not multiply past the limit.
            Some((node, nodes)) => self.finished(Node { line, value: node.value }, 0, nodes),
            None => Err((line, "an alias of a node that is not finished".to_owned())),
        }
    }

    fn finished(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), (usize, String)> {
        self.nodes += nodes;
        if self.nodes > limits::YAML_NODES_MAX {
            return Err((node.line, format!("more than {} nodes", limits::YAML_NODES_MAX)));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.nodes += nodes;
        match &mut frame.open {
            Open::List(items) => items.push(node),
            Open::Map(pairs, key) => match key.take() {
                Some((name, line)) => pairs.push((name, line, node)),
                None => match node.value {
                    Value::Text(text) => *key = Some((text, node.line)),
                    other => return Err((node.line, format!("a map's key must be a text, not {}", other.kind()))),
                },
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_their_text_and_nodes_their_lines() {
        let root = parse("a: 1.20\nb:\n  - ~\n  - '~'\n# c\nd: {e: true}\n").unwrap();
        let Value::Map(pairs) = root.value else { panic!("{root:?}") };
        assert_eq!(pairs[0], ("a".into(), 1, Node { line: 1, value: Value::Text("1.20".into()) }));
        let Value::List(items) = &pairs[1].2.value else { panic!() };
        assert_eq!(items[0], Node { line: 3, value: Value::Null });
        assert_eq!(items[1], Node { line: 4, value: Value::Text("~".into()) });
        assert_eq!(pairs[2].1, 6);
    }

    #[test]
    fn aliases_are_copies_within_the_limit() {
        let root = parse("a: &x [1, 2]\nb: *x\n").unwrap();
        let Value::Map(pairs) = root.value else { panic!() };
        assert_eq!(pairs[0].2.value, pairs[1].2.value);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [&*below; 10].join(", "));
        }
        assert!(parse(&bomb).unwrap_err().1.contains("more than"), "a bomb must not go off");
    }

    #[test]
    fn broken_files_say_where() {
        assert_eq!(parse("a: b\nc: [1, 2\n").unwrap_err().0, 2);
        assert_eq!(parse("a: 1\n---\nb: 2\n").unwrap_err().0, 2);
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse(&deep).unwrap_err().1.contains("deeper"));
        assert_eq!(parse("").unwrap().value, Value::Null);
    }
}
