//! Operators between numbers, and between a vector and a number. Vectors meet in `vector_match`.

use super::*;
use crate::ast::{Binary, BinaryOp, ValueType};

impl<'a, S: Source> Evaluator<'a, S> {
    pub(super) fn binary(&mut self, binary: &Binary, grid: Grid, sink: Sink<'_, 'a, S>) -> Result<()> {
        let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
        match (scalar(&binary.lhs), scalar(&binary.rhs)) {
            (true, true) => Err(Error::execution("an instant vector is needed, got scalar")),
            (true, false) => {
                let number = self.scalar(&binary.lhs, grid)?;
                self.with_number(binary, &binary.rhs, grid, sink, |i, v| (number.at(i), v))
            }
            (false, true) => {
                let number = self.scalar(&binary.rhs, grid)?;
                self.with_number(binary, &binary.lhs, grid, sink, |i, v| (v, number.at(i)))
            }
            (false, false) if binary.op.is_set() => self.set_operation(binary, grid, sink),
            (false, false) => self.vectors(binary, grid, sink),
        }
    }

    /// A vector and a number; `sides` puts a value of the vector and the number of its step in order.
    fn with_number(
        &mut self,
        binary: &Binary,
        vector: &Expr,
        grid: Grid,
        sink: Sink<'_, 'a, S>,
        sides: impl Fn(usize, f64) -> (f64, f64),
    ) -> Result<()> {
        let op = binary.op;
        let numbers_first = std::ptr::eq(vector, &binary.rhs);
        let filters = op.is_comparison() && !binary.return_bool;
        self.stream(vector, grid, &mut |eval, mut row| {
            for (i, point) in row.points.iter_mut().enumerate().filter(|(_, p)| is_present(**p)) {
                let (a, b) = sides(i, *point);
                if !filters {
                    *point = scalar(op, a, b);
                } else if scalar(op, a, b) == 0.0 {
                    *point = ABSENT;
                }
            }
            if row.points.native.take().is_some() && op.is_comparison() {
                let (name, at) = (op.as_str(), binary.lhs.span());
                let types = if numbers_first { ("float", "histogram") } else { ("histogram", "float") };
                let text = "incompatible sample types encountered for binary operator";
                eval.inform(at, &format!("{text} \"{name}\": {} {name} {}", types.0, types.1));
            }
            if filters && !row.points.iter().any(|v| is_present(*v)) {
                return Ok(());
            }
            row.drop_name |= !filters;
            sink(eval, row)
        })
    }
}

/// An operator between two numbers; comparisons give 0 or 1.
#[inline]
pub(super) fn scalar(op: BinaryOp, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        BinaryOp::Eq => truth(a == b),
        BinaryOp::Ne => truth(a != b),
        BinaryOp::Gt => truth(a > b),
        BinaryOp::Lt => truth(a < b),
        BinaryOp::Ge => truth(a >= b),
        BinaryOp::Le => truth(a <= b),
        // The parser allows these only between vectors.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}
