//! Counting requests in sliding windows, over a mock's record of when they came.

use std::time::Duration;

/// The most requests in any window of this length; `arrivals` in microseconds, in order.
#[must_use]
pub fn most_within(arrivals: &[u64], window: Duration) -> usize {
    let mut first = arrivals.iter().peekable();
    let mut inside = 0;
    let mut most = 0;
    for at in arrivals {
        inside += 1;
        while first.next_if(|first| u128::from(at - **first) >= window.as_micros()).is_some() {
            inside -= 1;
        }
        most = most.max(inside);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_before_its_length_is_over() {
        for (arrivals, most) in [
            (&[][..], 0),
            (&[7], 1),
            (&[0, 9], 2),
            (&[0, 10], 1),
            (&[0, 4, 9, 10, 12], 4),
            (&[0, 0, 0, 30, 31], 3),
        ] {
            assert_eq!(most_within(arrivals, Duration::from_micros(10)), most, "{arrivals:?}");
        }
    }
}
