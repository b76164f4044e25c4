// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a description to the hosts behind the card's streams.

use std::path::Path;
use std::sync::Arc;

use super::RunError;
use crate::audio::Host;
use crate::audio::clock::Clocked;
use crate::audio::file::{self, Disk, Player, Recorder};
use crate::audio::loopback::Loopback;
use crate::audio::null::Null;
use crate::audio::routes::{Route, Routes};
use crate::description::{self, Description, Stream, StreamHost};
use crate::pcm_format::{self, Format, MAX_CHANNELS};
use crate::wire::{Direction, PCM_EVT_XRUNS, PCM_MSG_POLLING, PcmInfo};

/// Opens the hosts of all streams.
///
/// # Errors
/// A file cannot be used, or a stream would have nothing to offer.
pub fn open(description: &Description) -> Result<Routes, RunError> {
    let mut routes = Routes::default();
    let streams = &description.streams;
    let mut ways: Vec<Option<Route>> = vec![None; streams.len()];
    let mut files = Files {
        streams,
        disk: None,
        count: 0,
    };
    open_cables(streams, &mut routes, &mut ways);
    open_pcms(streams, &mut routes, &mut ways)?;
    open_nodes(streams, &mut routes, &mut ways)?;
    for (id, (stream, way)) in streams.iter().zip(ways).enumerate() {
        let route = match (way, &stream.host) {
            (Some(route), _) => route,
            (None, StreamHost::File(path)) => {
                first_of(routes.add_host(files.open(stream.direction, path)?))
            }
            (None, StreamHost::Pipeline(description)) => {
                first_of(routes.add_host(open_pipeline(stream.direction, description)?))
            }
            (None, _) => {
                let info = everything(stream.direction, &pcm_format::FORMATS);
                first_of(routes.add_host(Box::new(Clocked::new(Null::new(vec![info])))))
            }
        };
        let Some(offered) = routes.offered(route) else {
            continue;
        };
        routes.add_stream(route, narrow(id, stream, offered)?);
    }
    Ok(routes)
}

/// Does beforehand what a copy of this process need not do again, and what takes longer than all else until it
/// plays: alsa-lib reads its configuration, PipeWire's library is loaded with its modules. To be called while there
/// is one thread.
pub fn prepare(description: &Description) {
    let any = |is: fn(&StreamHost) -> bool| description.streams.iter().any(|it| is(&it.host));
    if any(|host| matches!(host, StreamHost::Alsa(_))) {
        // What is wrong with it is told where a PCM is opened.
        #[cfg(feature = "alsa")]
        let _ = alsa::config::update();
    }
    if any(|host| matches!(host, StreamHost::PipeWire(_))) {
        #[cfg(feature = "pipewire")]
        crate::audio::pipewire::prepare();
    }
}

/// The files of a card.
struct Files<'a> {
    streams: &'a [Stream],
    /// The thread that writes them, and how many it writes.
    disk: Option<Arc<Disk>>,
    count: usize,
}

impl Files<'_> {
    /// Opens the file of a stream.
    fn open(&mut self, direction: Direction, path: &Path) -> Result<Box<dyn Host>, RunError> {
        if direction == Direction::Capture {
            return Ok(Box::new(Clocked::new(Recorder::new(path)?)));
        }
        let disk = match &self.disk {
            Some(disk) => Arc::clone(disk),
            None => Disk::start().map_err(|error| RunError::Thread("writes files", error))?,
        };
        self.disk = Some(Arc::clone(&disk));
        let files = self.streams.iter().filter_map(description::written_file);
        let taken = files.map(Path::to_owned).collect();
        let info = everything(direction, &file::FORMATS);
        let player = Player::new(path, taken, info, (disk, self.count))?;
        self.count += 1;
        Ok(Box::new(Clocked::new(player)))
    }
}

fn first_of(host: usize) -> Route {
    Route { host, stream: 0 }
}

/// What a host without hardware can carry.
fn everything(direction: Direction, formats: &[Format]) -> PcmInfo {
    PcmInfo {
        device: 0,
        formats: formats.iter().fold(0, |bits, format| bits | format.bit()),
        rates: rate_bits(&pcm_format::RATES),
        direction,
        channels_min: 1,
        channels_max: MAX_CHANNELS,
        features: 0,
    }
}

fn rate_bits(rates: &[u32]) -> u64 {
    rates
        .iter()
        .fold(0, |bits, &rate| bits | pcm_format::rate_bit(rate))
}

/// Lays a cable from each playback stream of a name to the capture stream of the same rank.
fn open_cables(streams: &[Stream], routes: &mut Routes, ways: &mut [Option<Route>]) {
    for (id, stream) in streams.iter().enumerate() {
        let StreamHost::Loop(cable) = &stream.host else {
            continue;
        };
        if stream.direction != Direction::Playback {
            continue;
        }
        let mut ends = streams.iter().zip(ways.iter()).enumerate();
        let other = ends.find(|(_, (other, way))| {
            let here = matches!(&other.host, StreamHost::Loop(name) if name == cable);
            here && other.direction == Direction::Capture && way.is_none()
        });
        let other = other.map(|(other, _)| other);
        let both = [Direction::Playback, Direction::Capture]
            .map(|direction| everything(direction, &pcm_format::FORMATS));
        let host = routes.add_host(Box::new(Clocked::new(Loopback::new(both))));
        for (end, stream) in [Some(id), other].into_iter().zip(0..) {
            if let Some(way) = end.and_then(|end| ways.get_mut(end)) {
                *way = Some(Route { host, stream });
            }
        }
    }
}

/// Gives the PCMs of the machine to one host.
#[cfg(feature = "alsa")]
fn open_pcms(
    streams: &[Stream],
    routes: &mut Routes,
    ways: &mut [Option<Route>],
) -> Result<(), RunError> {
    let pcms = || {
        streams.iter().filter_map(|stream| match &stream.host {
            StreamHost::Alsa(pcm) => Some((pcm.as_str(), stream)),
            _ => None,
        })
    };
    if pcms().next().is_none() {
        return Ok(());
    }
    let host = routes.add_host(Box::new(crate::audio::alsa::Alsa::new(pcms())?));
    let behind = streams.iter().zip(ways);
    let behind = behind.filter(|(stream, _)| matches!(stream.host, StreamHost::Alsa(_)));
    for (stream, (_, way)) in behind.enumerate() {
        *way = Some(Route { host, stream });
    }
    Ok(())
}

#[cfg(not(feature = "alsa"))]
fn open_pcms(
    streams: &[Stream],
    _routes: &mut Routes,
    _ways: &mut [Option<Route>],
) -> Result<(), RunError> {
    if streams
        .iter()
        .any(|stream| matches!(stream.host, StreamHost::Alsa(_)))
    {
        return Err(RunError::NotBuilt("alsa"));
    }
    Ok(())
}

/// Gives the nodes of PipeWire's graph to one host.
#[cfg(feature = "pipewire")]
fn open_nodes(
    streams: &[Stream],
    routes: &mut Routes,
    ways: &mut [Option<Route>],
) -> Result<(), RunError> {
    let nodes = || {
        let streams = streams.iter().enumerate();
        streams.filter_map(|(id, stream)| match &stream.host {
            StreamHost::PipeWire(node) => Some((id, node, stream)),
            _ => None,
        })
    };
    if nodes().next().is_none() {
        return Ok(());
    }
    for (id, node, stream) in nodes() {
        if let Some(target) = &node.target {
            log::warn!(
                "{}: target {target} leads it past the server's policy: its role has no effect",
                stream.label(id)
            );
        }
    }
    let host = routes.add_host(Box::new(crate::audio::pipewire::PipeWire::new(nodes())?));
    for (place, (id, ..)) in nodes().enumerate() {
        if let Some(way) = ways.get_mut(id) {
            *way = Some(Route {
                host,
                stream: place,
            });
        }
    }
    Ok(())
}

#[cfg(not(feature = "pipewire"))]
fn open_nodes(
    streams: &[Stream],
    _routes: &mut Routes,
    _ways: &mut [Option<Route>],
) -> Result<(), RunError> {
    let is_node = |stream: &Stream| matches!(stream.host, StreamHost::PipeWire(_));
    if streams.iter().any(is_node) {
        return Err(RunError::NotBuilt("pipewire"));
    }
    Ok(())
}

/// Makes a stream's end of a GStreamer pipeline.
#[cfg(feature = "gstreamer")]
fn open_pipeline(direction: Direction, description: &str) -> Result<Box<dyn Host>, RunError> {
    use crate::audio::gstreamer::{Capturer, Player};
    Ok(match direction {
        Direction::Playback => Box::new(Clocked::new(Player::new(description)?)),
        Direction::Capture => Box::new(Clocked::new(Capturer::new(description)?)),
    })
}

#[cfg(not(feature = "gstreamer"))]
fn open_pipeline(_direction: Direction, _description: &str) -> Result<Box<dyn Host>, RunError> {
    Err(RunError::NotBuilt("gstreamer"))
}

/// What a description leaves of what its host can do.
fn narrow(id: usize, stream: &Stream, offered: PcmInfo) -> Result<PcmInfo, RunError> {
    let formats = stream
        .formats
        .iter()
        .fold(0, |bits, format| bits | format.bit());
    let rates = rate_bits(&stream.rates);
    let (fewest, most) = stream.channels.unwrap_or((1, MAX_CHANNELS));
    let all_or = |bits: u64| if bits == 0 { u64::MAX } else { bits };
    let info = PcmInfo {
        device: stream.device,
        formats: offered.formats & all_or(formats),
        rates: offered.rates & all_or(rates),
        direction: stream.direction,
        channels_min: offered.channels_min.max(fewest),
        channels_max: offered.channels_max.min(most),
        features: if stream.polling {
            PCM_EVT_XRUNS | PCM_MSG_POLLING
        } else {
            PCM_EVT_XRUNS
        },
    };
    let nothing = |what, wanted, offered| RunError::NothingLeft {
        stream: stream.label(id),
        host: stream.host.to_string(),
        what,
        wanted,
        offered,
    };
    if info.formats == 0 {
        let (wanted, offered) = (format_names(formats), format_names(offered.formats));
        return Err(nothing("formats", wanted, offered));
    }
    if info.rates == 0 {
        let (wanted, offered) = (rate_names(rates), rate_names(offered.rates));
        return Err(nothing("rates", wanted, offered));
    }
    if info.channels_min > info.channels_max {
        let wanted = channel_range(fewest, most);
        let offered = channel_range(offered.channels_min, offered.channels_max);
        return Err(nothing("numbers of channels", wanted, offered));
    }
    Ok(info)
}

/// The names of the formats in a mask.
pub fn format_names(bits: u64) -> String {
    let all = pcm_format::FORMATS.iter();
    let names = all.filter(|format| bits & format.bit() != 0);
    names
        .map(|format| format.name)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The frame rates in a mask.
pub fn rate_names(bits: u64) -> String {
    let all = pcm_format::RATES.iter();
    let names = all.filter(|&&rate| bits & pcm_format::rate_bit(rate) != 0);
    names.map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// A range of numbers of channels.
pub fn channel_range(fewest: u8, most: u8) -> String {
    if fewest == most {
        fewest.to_string()
    } else {
        format!("{fewest}-{most}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(streams: Vec<Stream>) -> Description {
        Description {
            streams,
            ..Description::default()
        }
    }

    fn stream(direction: Direction, device: u32) -> Stream {
        Stream::new(direction, device, StreamHost::Null)
    }

    #[test]
    fn a_stream_offers_what_both_its_host_and_its_description_have() {
        let streams = vec![
            stream(Direction::Playback, 0),
            Stream {
                formats: vec![pcm_format::S16],
                rates: vec![44_100, 48_000],
                channels: Some((2, 6)),
                ..stream(Direction::Capture, 7)
            },
        ];
        let routes = open(&described(streams)).unwrap();
        let [all, some] = routes.streams() else {
            panic!("{:?}", routes.streams());
        };
        assert_eq!((all.device, all.channels_min, all.channels_max), (0, 1, 8));
        assert_eq!(format_names(all.formats).split(' ').count(), 24);
        assert_eq!(rate_names(some.rates), "44100 48000");
        assert_eq!(format_names(some.formats), "S16_LE");
        assert_eq!(
            (some.device, some.channels_min, some.channels_max),
            (7, 2, 6)
        );
        assert_eq!(some.direction, Direction::Capture);
    }

    #[test]
    fn a_stream_that_would_offer_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let wanted = Stream {
            formats: vec![pcm_format::Format::from_name("S8").unwrap()],
            ..Stream::new(Direction::Playback, 0, StreamHost::File(path))
        };
        let error = open(&described(vec![stream(Direction::Playback, 0), wanted]));
        let error = error.err().unwrap().to_string();
        for part in ["stream 1", "out.wav", "formats S8", "it has MU_LAW"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn cables_join_streams_of_one_rank() {
        let end =
            |direction, cable: &str| Stream::new(direction, 0, StreamHost::Loop(cable.into()));
        let streams = [
            end(Direction::Playback, "a"),
            end(Direction::Capture, "b"),
            end(Direction::Playback, "a"),
            end(Direction::Capture, "a"),
            end(Direction::Playback, "b"),
            end(Direction::Capture, "a"),
        ];
        let mut ways = vec![None; streams.len()];
        open_cables(&streams, &mut Routes::default(), &mut ways);
        let found: Vec<_> = ways
            .iter()
            .map(|way| way.map(|way| (way.host, way.stream)))
            .collect();
        let expected = [(0, 0), (2, 1), (1, 0), (0, 1), (2, 0), (1, 1)];
        assert_eq!(found, expected.map(Some));
    }
}
