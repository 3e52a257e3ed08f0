//! In which order a mail tries the ways out.

use crate::outbox::DeliveryId;

/// As they are listed; or, with weights, first the one that the delivery falls to, each time the same, and then
/// the others as they are listed.
pub(super) fn order(lanes: &[(usize, Option<u32>)], id: DeliveryId) -> Vec<usize> {
    let listed = lanes.iter().map(|(lane, _)| *lane);
    let total: u64 = lanes.iter().map(|(_, weight)| u64::from(weight.unwrap_or(0))).sum();
    if total == 0 {
        return listed.collect();
    }
    let mut left = spread(id) % total;
    let first = lanes.iter().find(|(_, weight)| {
        let weight = u64::from(weight.unwrap_or(0));
        let found = left < weight;
        left = left.saturating_sub(weight);
        found
    });
    let first = first.map(|(lane, _)| *lane);
    first.into_iter().chain(listed.filter(|lane| Some(*lane) != first)).collect()
}

/// A number of the delivery's own: the random half of its UUID and its position, mixed (SplitMix64's finalizer).
fn spread(id: DeliveryId) -> u64 {
    let (_, low) = id.email.as_uuid().as_u64_pair();
    let mut mixed = low ^ u64::from(id.position.unsigned_abs()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn delivery() -> DeliveryId {
        DeliveryId { email: Uuid::now_v7().into(), position: 0 }
    }

    #[test]
    fn without_weights_it_is_as_listed() {
        assert_eq!(order(&[(0, None), (2, None), (1, None)], delivery()), [0, 2, 1]);
        assert_eq!(order(&[], delivery()), [0; 0]);
    }

    #[test]
    fn with_weights_each_gets_its_share_and_a_delivery_always_the_same() {
        let lanes = [(0, Some(1)), (1, Some(3))];
        let mut firsts = [0; 2];
        for _ in 0..4_000 {
            let id = delivery();
            let chosen = order(&lanes, id);
            assert_eq!((chosen.len(), &chosen), (2, &order(&lanes, id)));
            firsts[chosen[0]] += 1;
        }
        assert!((800..1_200).contains(&firsts[0]), "{firsts:?}");
    }
}
