//! Nodes to text, within the limits on output and steps.

use super::Context;
use super::functions::{self, Value};
use super::parse::{Node, Operand, Pipeline};
use crate::labels::LabelSet;
use crate::limits;

pub(super) fn render(nodes: &[Node], context: &Context<'_>) -> Result<String, String> {
    let labels = Value::Labels(context.labels.clone());
    let variables = vec![
        ("", Value::Root),
        ("labels", labels),
        ("value", Value::Float(context.value)),
        ("externalLabels", Value::Labels(LabelSet::empty())),
        ("externalURL", Value::Text(context.external_url.into())),
    ];
    let mut run = Run { context, variables, out: String::new(), steps: 0 };
    run.nodes(nodes, &Value::Root)?;
    Ok(run.out)
}

struct Run<'a> {
    context: &'a Context<'a>,
    variables: Vec<(&'a str, Value)>,
    out: String,
    steps: usize,
}

impl<'a> Run<'a> {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        match self.steps <= limits::TEMPLATE_STEPS_MAX {
            true => Ok(()),
            false => Err(format!("took more than {} steps", limits::TEMPLATE_STEPS_MAX)),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > limits::TEMPLATE_OUTPUT_MAX_BYTES {
            return Err(format!("gave more than {} bytes", limits::TEMPLATE_OUTPUT_MAX_BYTES));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn nodes<'n>(&mut self, nodes: &'n [Node], dot: &Value) -> Result<(), String>
    where
        'n: 'a,
    {
        let scope = self.variables.len();
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
                Node::If { arms, otherwise } => self.choose(arms, otherwise, dot)?,
                Node::With { pipeline, body, otherwise } => {
                    let scope = self.variables.len();
                    let value = self.pipeline(pipeline, dot)?;
                    if value.is_true() {
                        self.nodes(body, &value)?;
                    } else {
                        self.nodes(otherwise, dot)?;
                    }
                    self.variables.truncate(scope);
                }
                Node::Range { pipeline, body, otherwise } => self.range(pipeline, body, otherwise, dot)?,
            }
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn choose<'n: 'a>(
        &mut self,
        arms: &'n [(Pipeline, Vec<Node>)],
        otherwise: &'n [Node],
        dot: &Value,
    ) -> Result<(), String> {
        let scope = self.variables.len();
        for (condition, body) in arms {
            if self.pipeline(condition, dot)?.is_true() {
                self.nodes(body, dot)?;
                self.variables.truncate(scope);
                return Ok(());
            }
        }
        self.nodes(otherwise, dot)?;
        self.variables.truncate(scope);
        Ok(())
    }

    fn range<'n: 'a>(
        &mut self,
        pipeline: &'n Pipeline,
        body: &'n [Node],
        otherwise: &'n [Node],
        dot: &Value,
    ) -> Result<(), String> {
        let items: Vec<(Value, Value)> = match self.value(pipeline, dot)? {
            Value::Samples(rows) => (0_i64..).zip(rows).map(|(at, row)| (Value::Int(at), Value::Sample(row))).collect(),
            Value::Labels(labels) => {
                labels.shared().map(|(name, value)| (Value::Text(name), Value::Text(value))).collect()
            }
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
            self.nodes(body, &item)?;
            self.variables.truncate(scope);
        }
        Ok(())
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
                functions::call(name, &values, self.context)
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
            (Value::Root, "ExternalLabels") => Ok(Value::Labels(LabelSet::empty())),
            (Value::Sample(row), "Labels") => Ok(Value::Labels(row.labels.clone())),
            (Value::Sample(row), "Value") => Ok(Value::Float(row.value)),
            (Value::Labels(labels), name) => Ok(Value::Text(labels.value(name).unwrap_or("").into())),
            (base, name) => Err(format!("{} has no field .{name}", base.kind())),
        }
    }
}
