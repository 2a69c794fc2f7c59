//! The table of functions: names, arguments, results. What they compute is in the evaluator.

use crate::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// A function's signature.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments.
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out, or whether the last repeats.
    pub variadic: Variadic,
    /// The type of its result.
    pub returns: ValueType,
    pub(crate) code: Code,
}

/// How the number of arguments may vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variadic {
    /// It may not.
    No,
    /// The last argument may be left out.
    Optional,
    /// The last argument may be left out or repeat.
    Repeated,
}

/// What a function does, by the shape of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Window(WindowCode),
    Each(EachCode),
    Calendar(CalendarCode),
    Absent,
    AbsentOverTime,
    Clamp,
    HistogramQuantile,
    HistogramFraction,
    /// Functions of native histograms, of which there are none: no result.
    NativeHistogram,
    LabelJoin,
    LabelReplace,
    Pi,
    Round,
    ScalarOf,
    Sort {
        descending: bool,
    },
    Time,
    Timestamp,
    VectorOf,
}

/// Functions of the samples in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowCode {
    Avg,
    Changes,
    Count,
    Delta,
    Deriv,
    First,
    Idelta,
    Increase,
    Irate,
    Last,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Stddev,
    Stdvar,
    Sum,
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EachCode {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    Deg,
    Exp,
    Floor,
    Ln,
    Log10,
    Log2,
    Rad,
    Sgn,
    Sin,
    Sinh,
    Sqrt,
    Tan,
    Tanh,
}

/// Parts of a date, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CalendarCode {
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
    Month,
    Year,
}

/// Every function, by name.
pub static FUNCTIONS: &[Function] = &[
    each("abs", EachCode::Abs),
    f("absent", &[Vector], Vector, Code::Absent),
    f("absent_over_time", &[Matrix], Vector, Code::AbsentOverTime),
    each("acos", EachCode::Acos),
    each("acosh", EachCode::Acosh),
    each("asin", EachCode::Asin),
    each("asinh", EachCode::Asinh),
    each("atan", EachCode::Atan),
    each("atanh", EachCode::Atanh),
    window("avg_over_time", WindowCode::Avg),
    each("ceil", EachCode::Ceil),
    window("changes", WindowCode::Changes),
    f("clamp", &[Vector, Scalar, Scalar], Vector, Code::Clamp),
    f("clamp_max", &[Vector, Scalar], Vector, Code::Each(EachCode::ClampMax)),
    f("clamp_min", &[Vector, Scalar], Vector, Code::Each(EachCode::ClampMin)),
    each("cos", EachCode::Cos),
    each("cosh", EachCode::Cosh),
    window("count_over_time", WindowCode::Count),
    calendar("day_of_month", CalendarCode::DayOfMonth),
    calendar("day_of_week", CalendarCode::DayOfWeek),
    calendar("day_of_year", CalendarCode::DayOfYear),
    calendar("days_in_month", CalendarCode::DaysInMonth),
    each("deg", EachCode::Deg),
    window("delta", WindowCode::Delta),
    window("deriv", WindowCode::Deriv),
    each("exp", EachCode::Exp),
    window("first_over_time", WindowCode::First),
    each("floor", EachCode::Floor),
    f("histogram_avg", &[Vector], Vector, Code::NativeHistogram),
    f("histogram_count", &[Vector], Vector, Code::NativeHistogram),
    f("histogram_fraction", &[Scalar, Scalar, Vector], Vector, Code::HistogramFraction),
    f("histogram_quantile", &[Scalar, Vector], Vector, Code::HistogramQuantile),
    f("histogram_stddev", &[Vector], Vector, Code::NativeHistogram),
    f("histogram_stdvar", &[Vector], Vector, Code::NativeHistogram),
    f("histogram_sum", &[Vector], Vector, Code::NativeHistogram),
    calendar("hour", CalendarCode::Hour),
    window("idelta", WindowCode::Idelta),
    window("increase", WindowCode::Increase),
    window("irate", WindowCode::Irate),
    v("label_join", &[Vector, String, String, String], Variadic::Repeated, Vector, Code::LabelJoin),
    f("label_replace", &[Vector, String, String, String, String], Vector, Code::LabelReplace),
    window("last_over_time", WindowCode::Last),
    each("ln", EachCode::Ln),
    each("log10", EachCode::Log10),
    each("log2", EachCode::Log2),
    window("max_over_time", WindowCode::Max),
    window("min_over_time", WindowCode::Min),
    calendar("minute", CalendarCode::Minute),
    calendar("month", CalendarCode::Month),
    f("pi", &[], Scalar, Code::Pi),
    f("predict_linear", &[Matrix, Scalar], Vector, Code::Window(WindowCode::PredictLinear)),
    window("present_over_time", WindowCode::Present),
    f("quantile_over_time", &[Scalar, Matrix], Vector, Code::Window(WindowCode::Quantile)),
    each("rad", EachCode::Rad),
    window("rate", WindowCode::Rate),
    window("resets", WindowCode::Resets),
    v("round", &[Vector, Scalar], Variadic::Optional, Vector, Code::Round),
    f("scalar", &[Vector], Scalar, Code::ScalarOf),
    each("sgn", EachCode::Sgn),
    each("sin", EachCode::Sin),
    each("sinh", EachCode::Sinh),
    f("sort", &[Vector], Vector, Code::Sort { descending: false }),
    f("sort_desc", &[Vector], Vector, Code::Sort { descending: true }),
    each("sqrt", EachCode::Sqrt),
    window("stddev_over_time", WindowCode::Stddev),
    window("stdvar_over_time", WindowCode::Stdvar),
    window("sum_over_time", WindowCode::Sum),
    each("tan", EachCode::Tan),
    each("tanh", EachCode::Tanh),
    f("time", &[], Scalar, Code::Time),
    f("timestamp", &[Vector], Vector, Code::Timestamp),
    f("vector", &[Scalar], Vector, Code::VectorOf),
    calendar("year", CalendarCode::Year),
];

impl Function {
    /// The function of this name; names are written in small letters.
    pub fn named(name: &str) -> Option<&'static Function> {
        FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
    }
}

const fn f(name: &'static str, args: &'static [ValueType], returns: ValueType, code: Code) -> Function {
    Function { name, args, variadic: Variadic::No, returns, code }
}

const fn v(
    name: &'static str,
    args: &'static [ValueType],
    variadic: Variadic,
    returns: ValueType,
    code: Code,
) -> Function {
    Function { name, args, variadic, returns, code }
}

const fn each(name: &'static str, code: EachCode) -> Function {
    f(name, &[Vector], Vector, Code::Each(code))
}

const fn window(name: &'static str, code: WindowCode) -> Function {
    f(name, &[Matrix], Vector, Code::Window(code))
}

const fn calendar(name: &'static str, code: CalendarCode) -> Function {
    v(name, &[Vector], Variadic::Optional, Vector, Code::Calendar(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_name_is_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for function in FUNCTIONS {
            assert_eq!(Function::named(function.name).unwrap().name, function.name);
        }
    }
}
