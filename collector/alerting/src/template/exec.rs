//! Nodes to text, within the limits on output and steps.

use super::Context;
use super::functions::{self, Value};
use super::message::{self, Library};
use super::parse::{Node, Operand, Parsed, Pipeline};
use crate::limits;

pub(super) fn render((nodes, defines): &Parsed, context: &Context<'_>) -> Result<String, String> {
    let labels = Value::Labels(context.labels.clone());
    let variables = vec![
        ("", Value::Root),
        ("labels", labels),
        ("value", Value::Float(context.value)),
        ("externalLabels", Value::Labels(context.external_labels.clone())),
        ("externalURL", Value::Text(context.external_url.into())),
    ];
    let limits = (limits::TEMPLATE_STEPS_MAX, limits::TEMPLATE_OUTPUT_MAX_BYTES);
    let mut run = Run { context, defines, library: None, variables, out: String::new(), steps: 0, depth: 0, limits };
    run.nodes(nodes, &Value::Root)?;
    Ok(run.out)
}

/// The text of a message's template, `data` its dot.
pub(super) fn render_message(
    (nodes, defines): &Parsed,
    library: &Library,
    data: &Value,
    context: &Context<'_>,
) -> Result<String, String> {
    let limits = (limits::MESSAGE_STEPS_MAX, limits::MESSAGE_OUTPUT_MAX_BYTES);
    let (library, variables, out) = (Some(library), vec![("", data.clone())], String::new());
    let mut run = Run { context, defines, library, variables, out, steps: 0, depth: 0, limits };
    run.nodes(nodes, data)?;
    Ok(run.out)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    context: &'a Context<'a>,
    defines: &'a [(Box<str>, Vec<Node>)],
    /// Named templates of the configuration; only messages have them.
    library: Option<&'a Library>,
    variables: Vec<(&'a str, Value)>,
    out: String,
    steps: usize,
    /// How many defined templates are within one another.
    depth: usize,
    /// Most steps, and most bytes of text.
    limits: (usize, usize),
}

impl<'a> Run<'a> {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        match self.steps <= self.limits.0 {
            true => Ok(()),
            false => Err(format!("took more than {} steps", self.limits.0)),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > self.limits.1 {
            return Err(format!("gave more than {} bytes", self.limits.1));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn nodes<'n>(&mut self, nodes: &'n [Node], dot: &Value) -> Result<Flow, String>
    where
        'n: 'a,
    {
        let scope = self.variables.len();
        let mut flow = Flow::Next;
        for node in nodes {
            self.step()?;
            match node {
                Node::Text(text) => self.write(text)?,
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.write(&value.to_string())?;
                    }
                }
                Node::If { arms, otherwise } => flow = self.choose(arms, otherwise, dot)?,
                Node::With { pipeline, body, otherwise } => {
                    let scope = self.variables.len();
                    let value = self.pipeline(pipeline, dot)?;
                    flow = if value.is_true() { self.nodes(body, &value)? } else { self.nodes(otherwise, dot)? };
                    self.variables.truncate(scope);
                }
                Node::Range { pipeline, body, otherwise } => flow = self.range(pipeline, body, otherwise, dot)?,
                Node::Template { name, data } => {
                    let data = data.as_ref().map_or(Ok(Value::Nil), |data| self.value(data, dot))?;
                    self.defined(name, &data)?;
                }
                Node::Break => flow = Flow::Break,
                Node::Continue => flow = Flow::Continue,
            }
            if flow != Flow::Next {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    /// What a `define` gives, which sees nothing but its data.
    fn defined(&mut self, name: &str, data: &Value) -> Result<(), String> {
        // Of a name defined twice the last counts, as in Go.
        let own = self.defines.iter().rev().find(|(known, _)| &**known == name).map(|(_, nodes)| nodes);
        let found = own.or_else(|| self.library.and_then(|library| library.find(name)));
        let Some(nodes) = found else { return Err(format!("template {name:?} is not defined")) };
        if self.depth == limits::TEMPLATE_DEPTH_MAX {
            return Err(format!("templates nested deeper than {}", limits::TEMPLATE_DEPTH_MAX));
        }
        self.depth += 1;
        let outside = std::mem::replace(&mut self.variables, vec![("", data.clone())]);
        self.nodes(nodes, data)?;
        self.variables = outside;
        self.depth -= 1;
        Ok(())
    }

    /// `tmpl "name" data`: the same as a text.
    fn tmpl(&mut self, arguments: &[Value]) -> Result<Value, String> {
        let [Value::Text(name), data] = arguments else {
            return Err("tmpl: takes a template's name and its data".to_owned());
        };
        let before = self.out.len();
        self.defined(name, data)?;
        let text = self.out.split_off(before);
        Ok(Value::Text(text.into()))
    }

    fn choose<'n: 'a>(
        &mut self,
        arms: &'n [(Pipeline, Vec<Node>)],
        otherwise: &'n [Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let scope = self.variables.len();
        let mut chosen = otherwise;
        for (condition, body) in arms {
            if self.pipeline(condition, dot)?.is_true() {
                chosen = body;
                break;
            }
        }
        let flow = self.nodes(chosen, dot)?;
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range<'n: 'a>(
        &mut self,
        pipeline: &'n Pipeline,
        body: &'n [Node],
        otherwise: &'n [Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let items: Vec<(Value, Value)> = match self.value(pipeline, dot)? {
            Value::Samples(rows) => (0_i64..).zip(rows).map(|(at, row)| (Value::Int(at), Value::Sample(row))).collect(),
            Value::Labels(labels) => {
                labels.shared().map(|(name, value)| (Value::Text(name), Value::Text(value))).collect()
            }
            Value::List(list) => (0_i64..).map(Value::Int).zip(list.iter().cloned()).collect(),
            Value::Nil => Vec::new(),
            other => return Err(format!("range goes over rows or labels, not {}", other.kind())),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let scope = self.variables.len();
            match pipeline.variables.as_slice() {
                [] => {}
                [name] => self.variables.push((name, item.clone())),
                [first, second, ..] => {
                    self.variables.push((first, key));
                    self.variables.push((second, item.clone()));
                }
            }
            self.step()?;
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// The pipeline's value, given to its variables.
    fn pipeline<'n: 'a>(&mut self, pipeline: &'n Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.value(pipeline, dot)?;
        if let Some(name) = pipeline.variables.last() {
            let known = self.variables.iter_mut().rev().find(|(known, _)| pipeline.assigns && *known == &**name);
            match known {
                Some((_, place)) => *place = value.clone(),
                None => self.variables.push((name, value.clone())),
            }
        }
        Ok(value)
    }

    fn value<'n: 'a>(&mut self, pipeline: &'n Pipeline, dot: &Value) -> Result<Value, String> {
        let mut fed: Option<Value> = None;
        for command in &pipeline.commands {
            fed = Some(self.command(command, fed, dot)?);
        }
        Ok(fed.unwrap_or(Value::Nil))
    }

    fn command<'n: 'a>(&mut self, command: &'n [Operand], fed: Option<Value>, dot: &Value) -> Result<Value, String> {
        self.step()?;
        let (Some(first), arguments) = (command.first(), &command[1.min(command.len())..]) else {
            return Ok(Value::Nil);
        };
        match first {
            Operand::Function(name @ ("and" | "or")) => {
                // The first argument that decides; later ones are not looked at, so that they may guard one another.
                let mut last = Value::Nil;
                for argument in arguments {
                    last = self.operand(argument, dot)?;
                    if last.is_true() == (*name == "or") {
                        return Ok(last);
                    }
                }
                fed.map_or_else(
                    || if arguments.is_empty() { Err(format!("{name} takes values")) } else { Ok(last) },
                    Ok,
                )
            }
            Operand::Function(name) => {
                let mut values = Vec::with_capacity(arguments.len() + 1);
                for argument in arguments {
                    values.push(self.operand(argument, dot)?);
                }
                values.extend(fed);
                if *name == "tmpl" { self.tmpl(&values) } else { functions::call(name, &values, self.context) }
            }
            Operand::Field(base, name) if fed.is_some() || !arguments.is_empty() => {
                let base = self.operand(base, dot)?;
                let mut values = Vec::with_capacity(arguments.len() + 1);
                for argument in arguments {
                    values.push(self.operand(argument, dot)?);
                }
                values.extend(fed);
                message::method(&base, name, &values)
            }
            _ if fed.is_some() => Err("only a function can be fed by |".to_owned()),
            operand => self.operand(operand, dot),
        }
    }

    fn operand<'n: 'a>(&mut self, operand: &'n Operand, dot: &Value) -> Result<Value, String> {
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Value::Nil,
            Operand::Bool(v) => Value::Bool(*v),
            Operand::Int(v) => Value::Int(*v),
            Operand::Float(v) => Value::Float(*v),
            Operand::Text(text) => Value::Text((&**text).into()),
            Operand::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(known, _)| *known == &**name)
                .map(|(_, value)| value.clone())
                .ok_or_else(|| format!("variable ${name} is not set here"))?,
            Operand::Function(name) => functions::call(name, &[], self.context)?,
            Operand::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
            Operand::Field(base, name) => {
                let base = self.operand(base, dot)?;
                self.field(&base, name)?
            }
        })
    }

    fn field(&self, base: &Value, name: &str) -> Result<Value, String> {
        match (base, name) {
            (Value::Root, "Labels") => Ok(Value::Labels(self.context.labels.clone())),
            (Value::Root, "Value") => Ok(Value::Float(self.context.value)),
            (Value::Root, "ExternalURL") => Ok(Value::Text(self.context.external_url.into())),
            (Value::Root, "ExternalLabels") => Ok(Value::Labels(self.context.external_labels.clone())),
            (Value::Sample(row), "Labels") => Ok(Value::Labels(row.labels.clone())),
            (Value::Sample(row), "Value") => Ok(Value::Float(row.value)),
            (Value::Args(values), name) => {
                let at = name.strip_prefix("arg").and_then(|nth| nth.parse::<usize>().ok());
                Ok(at.and_then(|at| values.get(at)).cloned().unwrap_or(Value::Nil))
            }
            (Value::Record(_) | Value::List(_) | Value::Time(_), name) => message::method(base, name, &[]),
            (Value::Labels(_), "SortedPairs" | "Names" | "Values") if self.library.is_some() => {
                message::method(base, name, &[])
            }
            (Value::Labels(labels), name) => Ok(Value::Text(labels.value(name).unwrap_or("").into())),
            (base, name) => Err(format!("{} has no field .{name}", base.kind())),
        }
    }
}
