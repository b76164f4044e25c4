// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Control requests (virtio 1.3, 5.14.6): information is answered here; what changes a stream is
//! checked here and carried out by the device.

use crate::stream::{Event, Params, State};
use crate::wire::{self, Chmap, HEADER_SIZE, JackInfo, PcmInfo, Query, Request, Status};

/// A checked change of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Stream id.
    pub stream: usize,
    /// What happens to it.
    pub event: Event,
    /// The state after it.
    pub after: State,
    /// The parameters, for SET_PARAMS.
    pub params: Option<Params>,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The response is complete.
    Answer(Status),
    /// The device has to do something before it answers.
    Do(Change),
}

/// Judges a request. `state` tells where a stream is; items that were asked for are appended to
/// `items`, at most `room` bytes of them.
pub fn judge(
    request: Option<Request<'_>>,
    streams: &[PcmInfo],
    chmaps: &[Chmap],
    jacks: &[JackInfo],
    state: impl Fn(usize) -> Option<State>,
    room: usize,
    items: &mut Vec<u8>,
) -> Verdict {
    let change = |id: u32, event, raw: Option<&wire::RawParams>| {
        let stream = usize::try_from(id).unwrap_or(usize::MAX);
        match (streams.get(stream), state(stream)) {
            (Some(info), Some(now)) => verdict(stream, info, now, event, raw),
            _ => Verdict::Answer(Status::BadMessage),
        }
    };
    match request {
        None => Verdict::Answer(Status::BadMessage),
        Some(Request::JackInfo(query)) => {
            let size = wire::JACK_INFO_SIZE;
            Verdict::Answer(list(query, jacks, size, room, items, JackInfo::encode))
        }
        Some(Request::JackRemap(id)) => {
            let known = usize::try_from(id).is_ok_and(|id| id < jacks.len());
            Verdict::Answer(if known {
                Status::NotSupported
            } else {
                Status::BadMessage
            })
        }
        Some(Request::PcmInfo(query)) => {
            let size = wire::PCM_INFO_SIZE;
            Verdict::Answer(list(query, streams, size, room, items, PcmInfo::encode))
        }
        Some(Request::ChmapInfo(query)) => {
            let size = wire::CHMAP_INFO_SIZE;
            Verdict::Answer(list(query, chmaps, size, room, items, Chmap::encode))
        }
        Some(Request::SetParams(id, raw)) => change(id, Event::SetParams, Some(&raw)),
        Some(Request::Prepare(id)) => change(id, Event::Prepare, None),
        Some(Request::Release(id)) => change(id, Event::Release, None),
        Some(Request::Start(id)) => change(id, Event::Start, None),
        Some(Request::Stop(id)) => change(id, Event::Stop, None),
        // Control elements are asked for their answer where they are offered.
        Some(Request::Element(_) | Request::Other(_)) => Verdict::Answer(Status::NotSupported),
    }
}

fn verdict(
    stream: usize,
    info: &PcmInfo,
    now: State,
    event: Event,
    raw: Option<&wire::RawParams>,
) -> Verdict {
    let Some(after) = now.after(event) else {
        return Verdict::Answer(Status::BadMessage);
    };
    match raw.map(|raw| Params::check(raw, info)).transpose() {
        Ok(params) => Verdict::Do(Change {
            stream,
            event,
            after,
            params,
        }),
        Err(status) => Verdict::Answer(status),
    }
}

/// Appends the items that a query asks for. The driver has room for `room` bytes, status and all.
pub fn list<T>(
    query: Query,
    all: &[T],
    item_bytes: usize,
    room: usize,
    items: &mut Vec<u8>,
    encode: impl Fn(&T, &mut Vec<u8>),
) -> Status {
    let range = || {
        let start = usize::try_from(query.start).ok()?;
        let count = usize::try_from(query.count)
            .ok()
            .filter(|&count| count > 0)?;
        all.get(start..start.checked_add(count)?)
    };
    let size = usize::try_from(query.size).unwrap_or(usize::MAX);
    let Some(wanted) = range().filter(|_| size >= item_bytes) else {
        return Status::BadMessage;
    };
    let needed = wanted
        .len()
        .checked_mul(size)
        .and_then(|bytes| bytes.checked_add(HEADER_SIZE));
    if needed.is_none_or(|needed| needed > room) {
        return Status::BadMessage;
    }
    for item in wanted {
        let end = items.len() + size;
        encode(item, items);
        // A driver of a later specification may leave more room for an item.
        items.resize(end, 0);
    }
    Status::Ok
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Direction, RawParams};

    const STREAM: PcmInfo = PcmInfo {
        device: 0,
        formats: 1 << 5,
        rates: 1 << 7,
        direction: Direction::Playback,
        channels_min: 1,
        channels_max: 2,
        features: 0,
    };
    const STREAMS: [PcmInfo; 2] = [
        STREAM,
        PcmInfo {
            direction: Direction::Capture,
            ..STREAM
        },
    ];
    const JACK: JackInfo = JackInfo {
        device: 0,
        defconf: 0x2020_0000,
        caps: 4,
        connected: true,
    };

    fn ask(request: Option<Request>, room: usize) -> (Verdict, Vec<u8>) {
        let mut items = Vec::new();
        let state = |stream| (stream < 2).then_some(State::Prepared);
        let chmap = Chmap {
            device: 0,
            direction: Direction::Playback,
            positions: vec![3, 4],
        };
        let verdict = judge(
            request,
            &STREAMS,
            &[chmap],
            &[JACK],
            state,
            room,
            &mut items,
        );
        (verdict, items)
    }

    fn query(start: u32, count: u32, size: u32) -> Query {
        Query { start, count, size }
    }

    #[test]
    fn streams_are_described() {
        let (verdict, items) = ask(Some(Request::PcmInfo(query(0, 2, 32))), 68);
        assert_eq!((verdict, items.len()), (Verdict::Answer(Status::Ok), 64));
        assert_eq!((items[24], items[56]), (0, 1));
        let (verdict, items) = ask(Some(Request::PcmInfo(query(1, 1, 40))), 44);
        assert_eq!((verdict, items.len()), (Verdict::Answer(Status::Ok), 40));
        let (verdict, items) = ask(Some(Request::ChmapInfo(query(0, 1, 24))), 100);
        assert_eq!((verdict, items.len()), (Verdict::Answer(Status::Ok), 24));
        let (verdict, items) = ask(Some(Request::JackInfo(query(0, 1, 24))), 28);
        assert_eq!((verdict, items.len()), (Verdict::Answer(Status::Ok), 24));
        assert_eq!(items[16], 1);
    }

    #[test]
    fn jacks_cannot_be_remapped() {
        let (known, unknown) = (Request::JackRemap(0), Request::JackRemap(1));
        assert_eq!(ask(Some(known), 4).0, Verdict::Answer(Status::NotSupported));
        assert_eq!(ask(Some(unknown), 4).0, Verdict::Answer(Status::BadMessage));
    }

    #[test]
    fn queries_outside_of_what_exists_are_bad_messages() {
        let wrong = [
            Request::PcmInfo(query(0, 0, 32)),
            Request::PcmInfo(query(0, 3, 32)),
            Request::PcmInfo(query(2, 1, 32)),
            Request::PcmInfo(query(u32::MAX, u32::MAX, 32)),
            Request::PcmInfo(query(0, 1, 31)),
            Request::PcmInfo(query(0, 2, u32::MAX)),
            Request::ChmapInfo(query(1, 1, 24)),
            Request::JackInfo(query(1, 1, 24)),
            Request::JackInfo(query(0, 2, 24)),
        ];
        for request in wrong {
            let (verdict, items) = ask(Some(request), 4096);
            assert_eq!(verdict, Verdict::Answer(Status::BadMessage), "{request:?}");
            assert!(items.is_empty());
        }
    }

    #[test]
    fn items_that_do_not_fit_the_response_are_a_bad_message() {
        let (verdict, items) = ask(Some(Request::PcmInfo(query(0, 2, 32))), 67);
        assert_eq!(
            (verdict, items.len()),
            (Verdict::Answer(Status::BadMessage), 0)
        );
    }

    #[test]
    fn unknown_requests_are_not_supported_and_short_ones_bad() {
        assert_eq!(
            ask(Some(Request::Other(0x300)), 4).0,
            Verdict::Answer(Status::NotSupported)
        );
        assert_eq!(ask(None, 4).0, Verdict::Answer(Status::BadMessage));
    }

    #[test]
    fn changes_are_checked() {
        let start = Change {
            stream: 1,
            event: Event::Start,
            after: State::Running,
            params: None,
        };
        assert_eq!(ask(Some(Request::Start(1)), 4).0, Verdict::Do(start));
        for request in [
            Request::Stop(0),
            Request::Start(2),
            Request::Prepare(u32::MAX),
        ] {
            let bad = Verdict::Answer(Status::BadMessage);
            assert_eq!(ask(Some(request), 4).0, bad, "{request:?}");
        }
        let raw = RawParams {
            buffer_bytes: 8,
            period_bytes: 4,
            features: 0,
            channels: 2,
            format: 255,
            rate: 7,
        };
        let answer = ask(Some(Request::SetParams(0, raw)), 4).0;
        assert_eq!(answer, Verdict::Answer(Status::NotSupported));
    }
}
