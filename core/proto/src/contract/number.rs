//! The assertions about numbers: bounds compared exactly, `multipleOf` in decimal arithmetic.

use super::instance::as_number;
use serde_json::Number;
use std::cmp::Ordering;

/// A number of the schema, as it is written there: integers beyond 2^53 stay what they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    Integer(i128),
    Float(f64),
}

impl Limit {
    pub(super) fn of(number: &Number) -> Self {
        match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Self::Integer(integer.into()),
            (None, Some(integer)) => Self::Integer(integer.into()),
            _ => Self::Float(as_number(&number.to_string())),
        }
    }

    /// How a value of a message stands to this limit.
    pub(super) fn compare(self, value: f64) -> Ordering {
        match self {
            Self::Float(limit) => value.partial_cmp(&limit).unwrap_or(Ordering::Equal),
            // Saturates beyond i128, where the limits do not reach.
            Self::Integer(limit) => (value.trunc() as i128)
                .cmp(&limit)
                .then_with(|| value.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal)),
        }
    }

    /// The float that is this very number, if there is one.
    pub(super) fn exact(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Integer(integer) => Some(integer as f64).filter(|value| *value as i128 == integer),
        }
    }
}

/// A number as `digits × 10^exponent`, with no zero at the end of the digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// The shortest decimal that reads as this float: 0.1 is one tenth, as JSON Schema means it.
    pub(super) fn of(value: f64) -> Option<Self> {
        let text = format!("{:e}", value.abs());
        let (mantissa, exponent) = text.split_once('e')?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        let exponent = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?;
        Some(Self { digits, exponent }.trimmed())
    }

    /// A number of the schema; integers of it are not rounded.
    pub(super) fn of_schema(number: &Number) -> Option<Self> {
        match number.as_u64() {
            Some(digits) => Some(Self { digits, exponent: 0 }.trimmed()),
            None => Self::of(as_number(&number.to_string())),
        }
    }

    fn trimmed(mut self) -> Self {
        while self.digits != 0 && self.digits.is_multiple_of(10) {
            self.digits /= 10;
            self.exponent += 1;
        }
        self
    }

    /// Whether this is a whole multiple of `unit`, which is above 0.
    pub(super) fn is_multiple_of(self, unit: Self) -> bool {
        if self.digits == 0 {
            return true;
        }
        let modulus = u128::from(unit.digits.max(1));
        let Ok(shift) = u32::try_from(i64::from(self.exponent) - i64::from(unit.exponent)) else {
            // The unit ends in more zeros than the number.
            return false;
        };
        (u128::from(self.digits) % modulus * power_of_ten(shift, modulus)).is_multiple_of(modulus)
    }
}

/// 10^`exponent` modulo `modulus`, which fits 64 bits.
fn power_of_ten(mut exponent: u32, modulus: u128) -> u128 {
    let (mut power, mut base) = (1 % modulus, 10 % modulus);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = power * base % modulus;
        }
        base = base * base % modulus;
        exponent >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn limit(value: &serde_json::Value) -> Limit {
        Limit::of(value.as_number().unwrap())
    }

    #[test]
    fn bounds_are_exact() {
        for (value, bound, order) in [
            (1.0, json!(1), Ordering::Equal),
            (1.5, json!(1), Ordering::Greater),
            (-1.5, json!(-1), Ordering::Less),
            (0.5, json!(0), Ordering::Greater),
            (-0.5, json!(0), Ordering::Less),
            (0.1, json!(0.1), Ordering::Equal),
            (9_007_199_254_740_992.0, json!(9_007_199_254_740_993_i64), Ordering::Less),
            (-9_007_199_254_740_992.0, json!(-9_007_199_254_740_993_i64), Ordering::Greater),
            (1e300, json!(u64::MAX), Ordering::Greater),
            (-1e300, json!(i64::MIN), Ordering::Less),
        ] {
            assert_eq!(limit(&bound).compare(value), order, "{value} {bound}");
        }
        assert_eq!(limit(&json!(9_007_199_254_740_993_i64)).exact(), None);
        assert_eq!(limit(&json!(1_u64 << 60)).exact(), Some((1_u64 << 60) as f64));
    }

    #[test]
    fn multiples_are_decimal() {
        for (value, unit, is) in [
            (0.3, json!(0.1), true),
            (1.1, json!(0.1), true),
            (0.35, json!(0.1), false),
            (0.0075, json!(0.0001), true),
            (0.00751, json!(0.0001), false),
            (-6.0, json!(3), true),
            (7.0, json!(3), false),
            (0.0, json!(3), true),
            (4.5, json!(1.5), true),
            (4.0, json!(1.5), false),
            (30.0, json!(100), false),
            (300.0, json!(100), true),
            (1e300, json!(7), false),
            (1e300, json!(1e299), true),
            (5e-324, json!(1), false),
            (12_391_239_123.0, json!(1e-8), true),
            (9_007_199_254_740_991.0, json!(u64::MAX), false),
        ] {
            let unit_is = Decimal::of_schema(unit.as_number().unwrap()).unwrap();
            assert_eq!(Decimal::of(value).unwrap().is_multiple_of(unit_is), is, "{value} {unit}");
        }
    }
}
