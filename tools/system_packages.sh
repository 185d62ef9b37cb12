#!/usr/bin/env bash
# The system packages that the tests need: PortAudio for sounddevice, PulseAudio for a virtual
# microphone, openssl for a certificate, Chromium and its driver.
# On Debian and Ubuntu they are installed, as root or with sudo; elsewhere their names are printed.
set -euo pipefail

missing=()
ldconfig -p 2>/dev/null | grep -q libportaudio || missing+=(libportaudio2)
command -v pulseaudio >/dev/null && command -v pactl >/dev/null ||
    missing+=(pulseaudio pulseaudio-utils libasound2-plugins)
command -v openssl >/dev/null || missing+=(openssl)
command -v chromium >/dev/null || missing+=(chromium)
command -v chromedriver >/dev/null || missing+=(chromium-driver)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
if ! command -v apt-get >/dev/null || ! { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }; then
    echo "not installed here: ${missing[*]}; install them by hand to run the browser and microphone tests"
    exit 0
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
