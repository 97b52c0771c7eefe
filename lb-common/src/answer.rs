//! What Baton answers by itself: resets, and how large a segment may be.

use crate::flow::tcp_flags::{ACK, FIN, RST, SYN};

/// The TCP header fields of a reset that answers a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
}

impl Reset {
    /// The reset that the sender of this segment accepts (RFC 9293, section 3.10.7.1): it stands where the
    /// sender expects the next byte, or acknowledges what it has sent.
    #[inline(always)]
    pub const fn answering(sequence: u32, acknowledgement: u32, flags: u8, payload_bytes: u32) -> Self {
        if flags & ACK != 0 {
            return Self { sequence: acknowledgement, acknowledgement: 0, flags: RST };
        }
        // SYN and FIN take a number each.
        let numbers = payload_bytes + (flags & FIN) as u32 + ((flags & SYN) >> 1) as u32;
        Self { sequence: 0, acknowledgement: sequence.wrapping_add(numbers), flags: RST | ACK }
    }
}

/// Bytes of the IP and TCP headers without options.
pub const HEADERS_V4: u16 = 40;
/// The same over IPv6.
pub const HEADERS_V6: u16 = 60;
/// No path is narrower than this for segments (RFC 791: 68 bytes of packet); a smaller value is not believed.
const SEGMENT_MIN: u16 = 28;

/// The largest segment that passes both interfaces, given what a whole packet may be there in bytes (0 if
/// that is not known); `None` if neither is known.
#[inline(always)]
pub const fn largest_segment(mtu: u16, other_mtu: u16, headers: u16) -> Option<u16> {
    let mtu = match (mtu, other_mtu) {
        (0, 0) => return None,
        (0, other) => other,
        (one, 0) => one,
        (one, other) => {
            if one < other {
                one
            } else {
                other
            }
        }
    };
    if mtu < headers + SEGMENT_MIN { None } else { Some(mtu - headers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_stands_where_the_sender_expects_the_next_byte() {
        let expected = Reset { sequence: 77, acknowledgement: 0, flags: RST };
        assert_eq!(Reset::answering(1000, 77, ACK, 20), expected);
        assert_eq!(Reset::answering(1000, 77, ACK | FIN, 0), expected);
    }

    #[test]
    fn without_an_acknowledgement_it_acknowledges_all_that_was_sent() {
        let answered = |flags, bytes| Reset::answering(u32::MAX, 77, flags, bytes);
        let expected = |acknowledgement| Reset { sequence: 0, acknowledgement, flags: RST | ACK };
        assert_eq!(answered(SYN, 0), expected(0));
        assert_eq!(answered(SYN, 10), expected(10));
        assert_eq!(answered(FIN, 10), expected(10));
        assert_eq!(answered(0, 10), expected(9));
    }

    #[test]
    fn the_narrower_of_two_paths_counts_and_an_unknown_one_does_not() {
        assert_eq!(largest_segment(1500, 1400, HEADERS_V4), Some(1360));
        assert_eq!(largest_segment(1400, 1500, HEADERS_V6), Some(1340));
        assert_eq!(largest_segment(0, 1500, HEADERS_V4), Some(1460));
        assert_eq!(largest_segment(1500, 0, HEADERS_V4), Some(1460));
        assert_eq!(largest_segment(0, 0, HEADERS_V4), None);
        assert_eq!(largest_segment(60, 1500, HEADERS_V4), None);
    }
}
