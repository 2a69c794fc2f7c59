//! The expression tree that the parser builds. Owns the shape of a query and its canonical text ([`std::fmt::Display`],
//! in `display`; over several lines in `pretty`); types are checked by the parser, meaning is given by the evaluator.

mod display;
mod pretty;

use crate::functions::Function;
use crate::matcher::Matcher;

/// Where something stands in the query's text: bytes `start..end`, and line and column (from one) of the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Line of the first byte.
    pub line: u32,
    /// Column of the first byte in its line, in bytes.
    pub column: u32,
}

impl Span {
    /// From the start of this one to the end of another.
    pub fn to(self, other: Span) -> Span {
        Span { end: other.end, ..self }
    }
}

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A number without labels.
    Scalar,
    /// Text.
    String,
    /// One sample a series.
    Vector,
    /// Many samples a series.
    Matrix,
}

impl ValueType {
    /// The name that errors and the documentation use.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
        }
    }
}

/// An expression. Equality ignores where it stood in the text.
#[derive(Debug, Clone)]
pub enum Expr {
    /// `1.5`, `0x1f`, `5m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `up{job="x"} offset 5m`
    Vector(VectorSelector),
    /// `up[5m]`
    Matrix(MatrixSelector),
    /// `rate(up[5m])[1h:1m]`
    Subquery(Box<Subquery>),
    /// `rate(…)`
    Call(Call),
    /// `sum by (job) (…)`
    Aggregate(Box<Aggregate>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `-a`
    Unary(Box<Unary>),
    /// `(a)`
    Paren(Box<Paren>),
}

/// A number.
#[derive(Debug, Clone)]
pub struct NumberLiteral {
    /// Its value; a duration's in seconds.
    pub value: f64,
    /// Whether it was written as a duration.
    pub duration: bool,
    /// Where.
    pub span: Span,
}

/// A text.
#[derive(Debug, Clone)]
pub struct StringLiteral {
    /// Its value, with stray bytes replaced.
    pub value: String,
    /// The exact bytes, if escapes made them something else than UTF-8.
    pub bytes: Option<Vec<u8>>,
    /// Where.
    pub span: Span,
}

/// What `@` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// `@ 1609746000.5`, in milliseconds.
    TimeMs(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// Selects series by their labels.
#[derive(Debug, Clone)]
pub struct VectorSelector {
    /// The metric name, if it is written as a name; it is then also the last matcher.
    pub name: Option<String>,
    /// The conditions.
    pub matchers: Vec<Matcher>,
    /// How far back to look.
    pub offset: Option<DurationExpr>,
    /// The fixed time.
    pub at: Option<At>,
    /// Where.
    pub span: Span,
}

/// The samples of a window.
#[derive(Debug, Clone)]
pub struct MatrixSelector {
    /// Which series, and when.
    pub vector: VectorSelector,
    /// How wide the window is.
    pub range: DurationExpr,
    /// Where.
    pub span: Span,
}

/// An expression evaluated at many times.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// What to evaluate.
    pub expr: Expr,
    /// How wide the window is.
    pub range: DurationExpr,
    /// How far apart the evaluations are; the engine's default if absent.
    pub step: Option<DurationExpr>,
    /// How far back to look.
    pub offset: Option<DurationExpr>,
    /// The fixed time.
    pub at: Option<At>,
    /// Where.
    pub span: Span,
}

/// A function call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Where.
    pub span: Span,
}

/// An aggregation operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
}

impl AggregateOp {
    const ALL: [(&'static str, AggregateOp); 12] = [
        ("sum", AggregateOp::Sum),
        ("avg", AggregateOp::Avg),
        ("count", AggregateOp::Count),
        ("min", AggregateOp::Min),
        ("max", AggregateOp::Max),
        ("group", AggregateOp::Group),
        ("stddev", AggregateOp::Stddev),
        ("stdvar", AggregateOp::Stdvar),
        ("topk", AggregateOp::Topk),
        ("bottomk", AggregateOp::Bottomk),
        ("quantile", AggregateOp::Quantile),
        ("count_values", AggregateOp::CountValues),
    ];

    /// The operator of this name, in any case.
    pub fn named(name: &str) -> Option<AggregateOp> {
        Self::ALL.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, op)| *op)
    }

    /// The operator's name.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(n, _)| n)
    }

    /// The type of the parameter before the expression, if it takes one.
    pub fn param(self) -> Option<ValueType> {
        match self {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Quantile => Some(ValueType::Scalar),
            AggregateOp::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// An aggregation over series.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// How to combine.
    pub op: AggregateOp,
    /// What to combine.
    pub expr: Expr,
    /// The parameter of those operators that take one.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether the labels are those to drop.
    pub without: bool,
    /// Where.
    pub span: Span,
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the operators")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Gt => ">",
            BinaryOp::Lt => "<",
            BinaryOp::Ge => ">=",
            BinaryOp::Le => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// How strongly it binds; the higher, the stronger.
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            op if op.is_comparison() => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Pow => 6,
            _ => 5,
        }
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(self, BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Gt | BinaryOp::Lt | BinaryOp::Ge | BinaryOp::Le)
    }

    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// Which side of a match may have many series for one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One on each side.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// The set operators.
    ManyToMany,
}

/// How the series of two vectors find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// Which side may have many.
    pub cardinality: Cardinality,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether the labels are those of `on`.
    pub on: bool,
    /// The labels of `group_left` or `group_right`, copied from the one side.
    pub include: Vec<String>,
}

impl Default for Matching {
    fn default() -> Matching {
        Matching { cardinality: Cardinality::OneToOne, labels: Vec::new(), on: false, include: Vec::new() }
    }
}

/// Two expressions and an operator.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left side.
    pub lhs: Expr,
    /// The right side.
    pub rhs: Expr,
    /// Whether a comparison gives 0 or 1 instead of filtering.
    pub return_bool: bool,
    /// How series find each other; only between two vectors.
    pub matching: Option<Matching>,
}

/// A sign before an expression.
#[derive(Debug, Clone)]
pub struct Unary {
    /// Whether the sign is a minus.
    pub negative: bool,
    /// What it stands before.
    pub expr: Expr,
    /// Where.
    pub span: Span,
}

/// An expression in parentheses.
#[derive(Debug, Clone)]
pub struct Paren {
    /// What is inside.
    pub expr: Expr,
    /// Where.
    pub span: Span,
}

/// A length of time that may be computed, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// `5m` or `300`
    Seconds(f64),
    /// `step()`: the step of the query, 0 for an instant query.
    Step,
    /// `range()`: the end of the query less its start.
    Range,
    /// `-d`
    Negative(Box<DurationExpr>),
    /// `d + d` and the like
    Binary(BinaryOp, Box<(DurationExpr, DurationExpr)>),
    /// `min_of(d, d)`
    Min(Box<(DurationExpr, DurationExpr)>),
    /// `max_of(d, d)`
    Max(Box<(DurationExpr, DurationExpr)>),
    /// `(d)`
    Paren(Box<DurationExpr>),
}

impl Expr {
    /// Where it stands in the text.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number(e) => e.span,
            Expr::String(e) => e.span,
            Expr::Vector(e) => e.span,
            Expr::Matrix(e) => e.span,
            Expr::Subquery(e) => e.span,
            Expr::Call(e) => e.span,
            Expr::Aggregate(e) => e.span,
            Expr::Binary(e) => e.lhs.span().to(e.rhs.span()),
            Expr::Unary(e) => e.span,
            Expr::Paren(e) => e.span,
        }
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Vector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Call(e) => e.function.returns,
            Expr::Binary(e) => {
                let scalar = e.lhs.value_type() == ValueType::Scalar && e.rhs.value_type() == ValueType::Scalar;
                if scalar { ValueType::Scalar } else { ValueType::Vector }
            }
            Expr::Unary(e) => e.expr.value_type(),
            Expr::Paren(e) => e.expr.value_type(),
        }
    }

    /// The expression without the parentheses around it.
    pub fn unwrapped(&self) -> &Expr {
        let mut expr = self;
        while let Expr::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }

    /// The expressions directly inside this one.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => Vec::new(),
            Expr::Subquery(e) => vec![&e.expr],
            Expr::Call(e) => e.args.iter().collect(),
            Expr::Aggregate(e) => e.param.iter().chain([&e.expr]).collect(),
            Expr::Binary(e) => vec![&e.lhs, &e.rhs],
            Expr::Unary(e) => vec![&e.expr],
            Expr::Paren(e) => vec![&e.expr],
        }
    }

    /// As [`Expr::children`], to change them.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => Vec::new(),
            Expr::Subquery(e) => vec![&mut e.expr],
            Expr::Call(e) => e.args.iter_mut().collect(),
            Expr::Aggregate(e) => {
                let e = &mut **e;
                e.param.iter_mut().chain([&mut e.expr]).collect()
            }
            Expr::Binary(e) => {
                let e = &mut **e;
                vec![&mut e.lhs, &mut e.rhs]
            }
            Expr::Unary(e) => vec![&mut e.expr],
            Expr::Paren(e) => vec![&mut e.expr],
        }
    }

    /// Calls `visit` with every series selector in the expression.
    pub fn for_each_selector<'e>(&'e self, visit: &mut dyn FnMut(&'e VectorSelector)) {
        match self {
            Expr::Vector(e) => visit(e),
            Expr::Matrix(e) => visit(&e.vector),
            other => other.children().into_iter().for_each(|child| child.for_each_selector(visit)),
        }
    }
}

/// Equal if they print the same.
impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.to_string() == other.to_string()
    }
}
