// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a PCM is set up: mapped, with a period that ends where the driver's does, started by START
//! alone and never stopped by an underrun.

use std::sync::Arc;

use alsa::ValueOr;
use alsa::pcm::{Frames, PCM};

use super::pace::{buffer_to_ask_for, periods_to_try};
use super::probe::{alsa_format, failure, mapped};
use crate::audio::HostError;
use crate::stream::Params;

/// What a PCM agreed to. Frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Length of its buffer.
    pub buffer: u64,
    /// Between two of its interrupts.
    pub period: u64,
}

/// Sets the PCM up, and leaves it prepared.
///
/// # Errors
/// It refuses the parameters.
pub fn configure(pcm: &PCM, device: &Arc<str>, params: &Params) -> Result<Agreed, HostError> {
    let agreed = set_hardware(pcm, device, params)?;
    set_software(pcm).map_err(failure(device, "software parameters"))?;
    pcm.prepare().map_err(failure(device, "prepare"))?;
    Ok(agreed)
}

fn set_hardware(pcm: &PCM, device: &Arc<str>, params: &Params) -> Result<Agreed, HostError> {
    let fail = |step| failure(device, step);
    let unsupported = || fail("format")(alsa::Error::unsupported("snd_pcm_hw_params_set_format"));
    let format = alsa_format(params.format).ok_or_else(unsupported)?;
    let hw = mapped(pcm, device)?;
    hw.set_format(format).map_err(fail("format"))?;
    hw.set_channels(params.channels.into())
        .map_err(fail("channels"))?;
    hw.set_rate(params.rate, ValueOr::Nearest)
        .map_err(fail("rate"))?;
    let period = params.period_frames();
    let largest = hw.get_buffer_size_max().map_err(fail("buffer"))?;
    let exact = periods_to_try(period, u64::try_from(largest).unwrap_or(0))
        .filter_map(|period| Frames::try_from(period).ok())
        .any(|period| hw.set_period_size(period, ValueOr::Nearest).is_ok());
    if !exact {
        hw.set_period_size_near(Frames::try_from(period).unwrap_or(1), ValueOr::Nearest)
            .map_err(fail("period"))?;
    }
    let buffer = buffer_to_ask_for(period, params.rate);
    hw.set_buffer_size_near(Frames::try_from(buffer).unwrap_or(Frames::MAX))
        .map_err(fail("buffer"))?;
    pcm.hw_params(&hw).map_err(fail("parameters"))?;
    let frames = |frames: Frames| u64::try_from(frames).unwrap_or(0).max(1);
    Ok(Agreed {
        buffer: frames(hw.get_buffer_size().map_err(fail("buffer"))?),
        period: frames(hw.get_period_size().map_err(fail("period"))?),
    })
}

fn set_software(pcm: &PCM) -> alsa::Result<()> {
    let sw = pcm.sw_params_current()?;
    let boundary = sw.get_boundary()?;
    sw.set_start_threshold(boundary)?;
    sw.set_stop_threshold(boundary)?;
    // The time at which the pointer was read comes with it.
    sw.set_tstamp_mode(true)?;
    pcm.sw_params(&sw)
}
