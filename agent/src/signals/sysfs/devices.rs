//! Classes of devices: memory controllers, controllers and errors of disks, adapters of networks and storage, tape drives, the board.

use super::super::metric::Metric;
use super::{CLASS, Class, Within};

const EDAC: &str = "/sys/devices/system/edac/mc/mc*";
const CSROW: &str = "/sys/devices/system/edac/mc/mc*/csrow*";
const NVME: &str = "/sys/class/nvme/nvme*";
const SCSI: &str = "/sys/block/sd*/device";
const FC: &str = "/sys/class/fc_host/host*";
const IB: &str = "/sys/class/infiniband/*";
const IB_PORT: &str = "/sys/class/infiniband/*/ports/*";
const TAPE: &str = "/sys/class/scsi_tape/st*";
const DMI: &str = "/sys/class/dmi/id";

/// Errors of the memory's modules.
pub(in super::super) static MEMORY_ERRORS: [Metric; 2] = [
    Metric::counter("node_edac_correctable_errors_total", "errors", EDAC, "Memory errors that were corrected.")
        .by(&["controller"]),
    Metric::counter("node_edac_uncorrectable_errors_total", "errors", EDAC, "Memory errors that were not corrected.")
        .by(&["controller"]),
];

/// The same by row of chips.
pub(in super::super) static MEMORY_ROW_ERRORS: [Metric; 2] = [
    Metric::counter("node_edac_csrow_correctable_errors_total", "errors", CSROW, "Those of a row of chips.")
        .by(&["controller", "csrow"]),
    Metric::counter("node_edac_csrow_uncorrectable_errors_total", "errors", CSROW, "Those of a row of chips.")
        .by(&["controller", "csrow"]),
];

/// NVMe controllers.
pub(in super::super) static NVME_INFO: [Metric; 1] =
    [Metric::gauge("node_nvme_info", "", NVME, "An NVMe controller; always 1.").by(&[
        "device",
        "firmware_revision",
        "model",
        "serial",
        "state",
    ])];

/// Errors of SCSI and SATA disks, as the kernel counted them.
pub(in super::super) static SCSI_ERRORS: [Metric; 2] = [
    Metric::counter("pitwatch_disk_io_errors_total", "requests", SCSI, "Requests to a SCSI or SATA disk that failed.")
        .by(&["device"]),
    Metric::counter(
        "pitwatch_disk_io_timeouts_total",
        "requests",
        SCSI,
        "Requests to a SCSI or SATA disk that timed out.",
    )
    .by(&["device"]),
];

/// Adapters of Fibre Channel.
pub(in super::super) static FC_INFO: [Metric; 1] =
    [Metric::gauge("node_fibrechannel_info", "", FC, "A Fibre Channel adapter; always 1.").by(&[
        "dev_loss_tmo",
        "fabric_name",
        "fc_host",
        "port_id",
        "port_name",
        "port_state",
        "port_type",
        "speed",
        "supported_classes",
        "supported_speeds",
        "symbolic_name",
    ])];

const fn fc(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, FC, help).by(&["fc_host"])
}

/// What they count, if their hardware does.
pub(in super::super) static FC_COUNTERS: [Metric; 14] = [
    fc("node_fibrechannel_dumped_frames_total", "frames", "Frames that were lost."),
    fc("node_fibrechannel_error_frames_total", "frames", "Frames with an error."),
    fc("node_fibrechannel_fcp_packet_aborts_total", "packets", "Packets given up."),
    fc("node_fibrechannel_invalid_crc_total", "frames", "Frames with a wrong checksum."),
    fc("node_fibrechannel_invalid_tx_words_total", "words", "Words that were wrong on the link."),
    fc("node_fibrechannel_link_failure_total", "times", "Times that the link failed."),
    fc("node_fibrechannel_loss_of_signal_total", "times", "Times that the signal was lost."),
    fc("node_fibrechannel_loss_of_sync_total", "times", "Times that the synchronisation was lost."),
    fc("node_fibrechannel_nos_total", "times", "Times that the link was said to be out of order."),
    fc("node_fibrechannel_rx_frames_total", "frames", "Frames received."),
    fc("node_fibrechannel_rx_words_total", "words", "Words received."),
    fc("node_fibrechannel_seconds_since_last_reset_total", "seconds", "Time since the counters began."),
    fc("node_fibrechannel_tx_frames_total", "frames", "Frames sent."),
    fc("node_fibrechannel_tx_words_total", "words", "Words sent."),
];

/// Adapters of InfiniBand.
pub(in super::super) static INFINIBAND_INFO: [Metric; 1] =
    [Metric::gauge("node_infiniband_info", "", IB, "An InfiniBand adapter; always 1.").by(&[
        "board_id",
        "device",
        "firmware_version",
        "hca_type",
    ])];

const fn port(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, IB_PORT, help).by(&["device", "port"])
}

const fn port_now(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::gauge(name, unit, IB_PORT, help).by(&["device", "port"])
}

/// Their ports.
pub(in super::super) static INFINIBAND: [Metric; INFINIBAND_FILES.len()] = [
    port_now("node_infiniband_state_id", "", "State of a port: 1 down, 2 initialising, 3 armed, 4 active."),
    port_now("node_infiniband_physical_state_id", "", "Physical state of a port: 3 disabled, 5 linked, 6 recovering."),
    port_now("node_infiniband_rate_bytes_per_second", "bytes a second", "Rate of a port's link."),
    port("node_infiniband_link_downed_total", "times", "Times that a link failed."),
    port("node_infiniband_link_error_recovery_total", "times", "Times that a link recovered from an error."),
    port("node_infiniband_symbol_error_total", "errors", "Symbols that were wrong on a link."),
    port(
        "node_infiniband_excessive_buffer_overrun_errors_total",
        "errors",
        "Overruns of a port's buffers, one after the other.",
    ),
    port(
        "node_infiniband_local_link_integrity_errors_total",
        "errors",
        "Times that too many local errors came together.",
    ),
    port("node_infiniband_vl15_dropped_total", "packets", "Management packets dropped for want of room."),
    port("node_infiniband_multicast_packets_received_total", "packets", "Multicast packets received."),
    port("node_infiniband_multicast_packets_transmitted_total", "packets", "Multicast packets sent."),
    port("node_infiniband_unicast_packets_received_total", "packets", "Unicast packets received."),
    port("node_infiniband_unicast_packets_transmitted_total", "packets", "Unicast packets sent."),
    port(
        "node_infiniband_port_constraint_errors_received_total",
        "packets",
        "Packets received and dropped by a rule of the switch.",
    ),
    port(
        "node_infiniband_port_constraint_errors_transmitted_total",
        "packets",
        "Packets not sent by a rule of the switch.",
    ),
    port("node_infiniband_port_data_received_bytes_total", "bytes", "Bytes received."),
    port("node_infiniband_port_data_transmitted_bytes_total", "bytes", "Bytes sent."),
    port(
        "node_infiniband_port_discards_received_total",
        "packets",
        "Packets dropped on the way in: the port was down or congested.",
    ),
    port(
        "node_infiniband_port_discards_transmitted_total",
        "packets",
        "Packets dropped on the way out: the port was down or congested.",
    ),
    port("node_infiniband_port_errors_received_total", "packets", "Packets received with an error."),
    port(
        "node_infiniband_port_receive_remote_physical_errors_total",
        "packets",
        "Packets received that were marked bad on their way.",
    ),
    port(
        "node_infiniband_port_receive_switch_relay_errors_total",
        "packets",
        "Packets received that a switch could not pass on.",
    ),
    port("node_infiniband_port_packets_received_total", "packets", "Packets received."),
    port("node_infiniband_port_packets_transmitted_total", "packets", "Packets sent."),
    port("node_infiniband_port_transmit_wait_total", "ticks", "Ticks in which data waited and none was sent."),
    port(
        "node_infiniband_legacy_multicast_packets_received_total",
        "packets",
        "Multicast packets received, of older drivers.",
    ),
    port(
        "node_infiniband_legacy_multicast_packets_transmitted_total",
        "packets",
        "Multicast packets sent, of older drivers.",
    ),
    port(
        "node_infiniband_legacy_unicast_packets_received_total",
        "packets",
        "Unicast packets received, of older drivers.",
    ),
    port(
        "node_infiniband_legacy_unicast_packets_transmitted_total",
        "packets",
        "Unicast packets sent, of older drivers.",
    ),
    port("node_infiniband_legacy_data_received_bytes_total", "bytes", "Bytes received, of older drivers."),
    port("node_infiniband_legacy_data_transmitted_bytes_total", "bytes", "Bytes sent, of older drivers."),
    port("node_infiniband_legacy_packets_received_total", "packets", "Packets received, of older drivers."),
    port("node_infiniband_legacy_packets_transmitted_total", "packets", "Packets sent, of older drivers."),
];

/// In the order of [`INFINIBAND`]; data is counted in words of four bytes, rates are in Gb/s.
const INFINIBAND_FILES: [(&str, f64); 33] = [
    ("state", 1.0),
    ("phys_state", 1.0),
    ("rate", 8e-9),
    ("counters/link_downed", 1.0),
    ("counters/link_error_recovery", 1.0),
    ("counters/symbol_error", 1.0),
    ("counters/excessive_buffer_overrun_errors", 1.0),
    ("counters/local_link_integrity_errors", 1.0),
    ("counters/VL15_dropped", 1.0),
    ("counters/multicast_rcv_packets", 1.0),
    ("counters/multicast_xmit_packets", 1.0),
    ("counters/unicast_rcv_packets", 1.0),
    ("counters/unicast_xmit_packets", 1.0),
    ("counters/port_rcv_constraint_errors", 1.0),
    ("counters/port_xmit_constraint_errors", 1.0),
    ("counters/port_rcv_data", 0.25),
    ("counters/port_xmit_data", 0.25),
    ("counters/port_rcv_discards", 1.0),
    ("counters/port_xmit_discards", 1.0),
    ("counters/port_rcv_errors", 1.0),
    ("counters/port_rcv_remote_physical_errors", 1.0),
    ("counters/port_rcv_switch_relay_errors", 1.0),
    ("counters/port_rcv_packets", 1.0),
    ("counters/port_xmit_packets", 1.0),
    ("counters/port_xmit_wait", 1.0),
    ("counters_ext/port_multicast_rcv_packets", 1.0),
    ("counters_ext/port_multicast_xmit_packets", 1.0),
    ("counters_ext/port_unicast_rcv_packets", 1.0),
    ("counters_ext/port_unicast_xmit_packets", 1.0),
    ("counters_ext/port_rcv_data_64", 0.25),
    ("counters_ext/port_xmit_data_64", 0.25),
    ("counters_ext/port_rcv_packets_64", 1.0),
    ("counters_ext/port_xmit_packets_64", 1.0),
];

const fn tape(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric::counter(name, unit, TAPE, help).by(&["device"])
}

/// Tape drives.
pub(in super::super) static TAPES: [Metric; 10] = [
    Metric::gauge("node_tape_io_now", "requests", TAPE, "Requests in progress.").by(&["device"]),
    tape("node_tape_io_time_seconds_total", "seconds", "Time spent by all requests."),
    tape("node_tape_io_others_total", "requests", "Requests that neither read nor wrote."),
    tape("node_tape_read_bytes_total", "bytes", "Bytes read."),
    tape("node_tape_reads_completed_total", "requests", "Reads completed."),
    tape("node_tape_read_time_seconds_total", "seconds", "Time spent by reads."),
    tape("node_tape_residual_total", "requests", "Requests that moved fewer bytes than asked."),
    tape("node_tape_written_bytes_total", "bytes", "Bytes written."),
    tape("node_tape_writes_completed_total", "requests", "Writes completed."),
    tape("node_tape_write_time_seconds_total", "seconds", "Time spent by writes."),
];

const DMI_TEXTS: [(&str, &str); 18] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_version", "product_version"),
    ("system_vendor", "sys_vendor"),
];

const DMI_LABELS: [&str; DMI_TEXTS.len()] = {
    let mut labels = [""; DMI_TEXTS.len()];
    let mut at = 0;
    while at < labels.len() {
        labels[at] = DMI_TEXTS[at].0;
        at += 1;
    }
    labels
};

/// What the firmware says of the board.
pub(in super::super) static DMI_INFO: [Metric; 1] =
    [Metric::gauge("node_dmi_info", "", DMI, "The machine's board, firmware and product; always 1.").by(&DMI_LABELS)];

/// The board: it does not change while the host runs.
pub(in super::super) static BOARD: Class =
    Class { name: "dmi", dir: "class/dmi", texts: &DMI_TEXTS, numbers: &[("", 1.0)], metrics: &DMI_INFO, ..CLASS };

const MEMORY_CONTROLLERS: Class = Class { dir: "devices/system/edac/mc", prefix: "mc", label: "controller", ..CLASS };

/// The classes.
pub(super) static CLASSES: [Class; 10] = [
    Class {
        name: "memory_errors",
        numbers: &[("ce_count", 1.0), ("ue_count", 1.0)],
        metrics: &MEMORY_ERRORS,
        ..MEMORY_CONTROLLERS
    },
    Class {
        name: "memory_rowless_errors",
        fixed: Some(("csrow", "unknown")),
        numbers: &[("ce_noinfo_count", 1.0), ("ue_noinfo_count", 1.0)],
        metrics: &MEMORY_ROW_ERRORS,
        ..MEMORY_CONTROLLERS
    },
    Class {
        name: "memory_row_errors",
        within: Some(Within { dir: "", prefix: "csrow", label: "csrow" }),
        numbers: &[("ce_count", 1.0), ("ue_count", 1.0)],
        metrics: &MEMORY_ROW_ERRORS,
        ..MEMORY_CONTROLLERS
    },
    Class {
        name: "nvme",
        dir: "class/nvme",
        label: "device",
        texts: &[("firmware_revision", "firmware_rev"), ("model", "model"), ("serial", "serial"), ("state", "state")],
        numbers: &[("", 1.0)],
        metrics: &NVME_INFO,
        ..CLASS
    },
    Class {
        name: "scsi_errors",
        dir: "block",
        below: "device",
        label: "device",
        numbers: &[("ioerr_cnt", 1.0), ("iotmo_cnt", 1.0)],
        metrics: &SCSI_ERRORS,
        ..CLASS
    },
    Class {
        name: "fibrechannel_info",
        dir: "class/fc_host",
        label: "fc_host",
        texts: &[
            ("dev_loss_tmo", "dev_loss_tmo"),
            ("fabric_name", "fabric_name"),
            ("port_id", "port_id"),
            ("port_name", "port_name"),
            ("port_state", "port_state"),
            ("port_type", "port_type"),
            ("speed", "speed"),
            ("supported_classes", "supported_classes"),
            ("supported_speeds", "supported_speeds"),
            ("symbolic_name", "symbolic_name"),
        ],
        bare_hex: true,
        numbers: &[("", 1.0)],
        metrics: &FC_INFO,
        ..CLASS
    },
    Class {
        name: "fibrechannel",
        dir: "class/fc_host",
        below: "statistics",
        label: "fc_host",
        numbers: &[
            ("dumped_frames", 1.0),
            ("error_frames", 1.0),
            ("fcp_packet_aborts", 1.0),
            ("invalid_crc_count", 1.0),
            ("invalid_tx_word_count", 1.0),
            ("link_failure_count", 1.0),
            ("loss_of_signal_count", 1.0),
            ("loss_of_sync_count", 1.0),
            ("nos_count", 1.0),
            ("rx_frames", 1.0),
            ("rx_words", 1.0),
            ("seconds_since_last_reset", 1.0),
            ("tx_frames", 1.0),
            ("tx_words", 1.0),
        ],
        metrics: &FC_COUNTERS,
        ..CLASS
    },
    Class {
        name: "infiniband_info",
        dir: "class/infiniband",
        label: "device",
        texts: &[("board_id", "board_id"), ("firmware_version", "fw_ver"), ("hca_type", "hca_type")],
        numbers: &[("", 1.0)],
        metrics: &INFINIBAND_INFO,
        ..CLASS
    },
    Class {
        name: "infiniband",
        dir: "class/infiniband",
        within: Some(Within { dir: "ports", prefix: "", label: "port" }),
        label: "device",
        numbers: &INFINIBAND_FILES,
        metrics: &INFINIBAND,
        ..CLASS
    },
    Class {
        name: "tapes",
        dir: "class/scsi_tape",
        prefix: "st",
        whole_name: true,
        below: "stats",
        label: "device",
        numbers: &[
            ("in_flight", 1.0),
            ("io_ns", 1e9),
            ("other_cnt", 1.0),
            ("read_byte_cnt", 1.0),
            ("read_cnt", 1.0),
            ("read_ns", 1e9),
            ("resid_cnt", 1.0),
            ("write_byte_cnt", 1.0),
            ("write_cnt", 1.0),
            ("write_ns", 1e9),
        ],
        metrics: &TAPES,
        ..CLASS
    },
];
