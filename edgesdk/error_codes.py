"""The table of error codes: the family that each belongs to, its cause and its cure. `edgesdk.errors` raises them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """What `docs/errors.md` says about one code."""

    family: str
    cause: str
    cure: str


def _table(family: str, rows: dict[str, tuple[str, str]]) -> dict[str, CodeInfo]:
    return {code: CodeInfo(family, cause, cure) for code, (cause, cure) in rows.items()}


CODES: dict[str, CodeInfo] = {
    **_table(
        "ContractError",
        {
            "input-missing": ("An input that the contract names was not given.", "Pass every input by its name."),
            "input-unknown": ("An input was given that the contract does not name.", "Use the contract's names."),
            "input-shape": ("An input's shape differs from the contract's.", "Reshape it to the contract's shape."),
            "input-dtype": (
                "An input's dtype cannot be converted without loss.",
                "Convert it to the contract's dtype.",
            ),
            "input-range": ("An input lies outside the contract's range.", "Check units and scaling of the input."),
            "input-nan": ("An input holds NaN or infinity.", "Clean the input before it reaches the model."),
            "task-mismatch": (
                "The call does not suit what the model does.",
                "Use `Model.predict`, and pass one example at a time to `Model.classify`.",
            ),
            "contract-major": (
                "The app asks for another major version of the contract than the release has.",
                "Update the app, or deploy a release with the contract the app asks for.",
            ),
            "model-none-served": (
                "No generation of this model is served here.",
                "Deploy a release; `edge-agent status` says what the device has.",
            ),
        },
    ),
    **_table(
        "ReleaseError",
        {
            "bundle-not-a-bundle": ("The file is no edgesdk bundle.", "Pass a file made by `edge convert`."),
            "bundle-truncated": ("The bundle ends early.", "Download or copy it again."),
            "bundle-not-canonical": (
                "The archive is not in the one byte layout that a bundle has.",
                "Make it with `edge convert`; do not repack it with an archiver.",
            ),
            "bundle-limit": ("A size, count or name in the bundle exceeds its limit.", "Make the bundle smaller."),
            "bundle-path": ("A path in the bundle is absolute, escapes, or collides.", "Rename the file."),
            "bundle-hash": ("A file in the bundle differs from the manifest.", "Make or download the bundle again."),
            "manifest-invalid": ("The manifest does not follow its schema.", "Make the bundle with `edge convert`."),
            "manifest-schema": ("The manifest's schema version is not known here.", "Update edgesdk."),
            "manifest-critical": (
                "The manifest names a critical extension that is not known here.",
                "Update edgesdk on the device, or publish without the extension.",
            ),
            "release-invalid": ("The release index does not follow its schema.", "Make it with `edge convert`."),
            "release-immutable": (
                "A published release would change.",
                "Publish it under a new version; devices may already run the old one.",
            ),
            "artifact-unloadable": (
                "The runtime cannot load the artifact.",
                "Convert for a runtime version that the device has.",
            ),
            "artifact-mismatch": (
                "The artifact's tensors differ from the manifest's bindings.",
                "Make the bundle again from this artifact.",
            ),
            "inference-failed": (
                "The runtime failed while it ran the artifact.",
                "Check the model on this input; convert for the runtime that the device has.",
            ),
            "output-nan": ("The model answered NaN or infinity.", "Roll back; check the model on this input."),
            "golden-invalid": (
                "The arrays of a golden set are malformed or do not belong together.",
                "Make the bundle again with `edge convert`; the message names the file.",
            ),
            "golden-mismatch": (
                "The artifact does not reproduce its golden outputs here.",
                "Check the runtime's version and delegate; convert again for this runtime.",
            ),
            "golden-truth-loss": (
                "The release is worse than the incumbent on labelled examples.",
                "Check labels and training of the release; it stays quarantined here.",
            ),
            "latency-budget": (
                "Calls take longer than the policy's latency budget, or than `max_slowdown` times the good release's.",
                "Use a smaller model or another runtime, or deploy with `--trial-slow-ms` or `--trial-max-slowdown`.",
            ),
            "memory-budget": (
                "The release needs more memory than testing, or the process of an app, may take.",
                "Use a smaller model, or raise `testing_memory_bytes` in the trial policy.",
            ),
            "memory-growth": (
                "Each call leaves memory behind: the release grows until the device has none left.",
                "Bound what the model keeps between calls, such as a state that is appended to.",
            ),
            "conversion-failed": ("A conversion step failed or crashed.", "Read the tool's words in the message."),
            "conversion-timeout": ("A conversion step took longer than its limit.", "Raise --step-timeout."),
            "tool-crashed": ("A vendor's tool crashed or failed.", "Read its own words in the message."),
            "tool-timeout": ("A vendor's tool did not end in time.", "Raise --step-timeout, or report it to them."),
            "tool-did-nothing": (
                "A vendor's tool ended with success and did nothing.",
                "Give it what it can compile; its own words are in the message.",
            ),
            "latency-gate": (
                "The converted artifact is not as fast, compared with its float source, as --min-speedup asks.",
                "Use another recipe or format, or ask for less; the report has the times.",
            ),
            "source-wrong": (
                "The float model itself only guesses on the evaluation data, or its labels are in another order.",
                "Correct normalisation, layout, colours or labels in the contract; the message names what helps.",
            ),
            "accuracy-gate": (
                "The converted artifact is worse than its source by more than the margin.",
                "Use another recipe or calibration data; the message names the cause where it was found.",
            ),
            "model-unreadable": ("Keras cannot read the model.", "Save it again with this version of Keras."),
            "prune-unsupported": (
                "The model has no channels or weights that can be removed safely.",
                "The message names the layers; prune another part, or by weights.",
            ),
            "compression-unequal": (
                "A removal that should have been lossless changed the answers; nothing was written.",
                "Report it with the model: it is a bug.",
            ),
            "repair-exhausted": (
                "No rung of the repair ladder makes an artifact that the gate passes.",
                "Bring more evaluation data, allow more with --max-drop, or train the model for int8.",
            ),
            "training-diverged": ("The loss became NaN or infinite.", "Lower --learning-rate; check the data."),
        },
    ),
    **_table(
        "TrustError",
        {
            "signature-invalid": ("A signature does not verify.", "Do not use the content; find out who made it."),
            "signature-missing": ("The content is not signed by a key that is trusted for it.", "Sign it."),
            "payload-type": ("A signed payload is of another kind than expected.", "Use the right kind of document."),
            "audience": ("A signed document is addressed to another fleet or device.", "Address it to this device."),
            "serial-replayed": (
                "A desired document has a serial at or below the one accepted.",
                "Issue a new one; a restored hub must start above the largest reported serial.",
            ),
            "counter-contradicted": (
                "A device signed two different statements with one counter, or went back in its counters.",
                "Find out whether its state was copied or restored; revoke and enrol it again.",
            ),
            "deployment-key-unlisted": (
                "The repository does not list the hub's deployment key, so devices would refuse what it signs.",
                "Run `edge repo deployment-keys` with the hub's key.",
            ),
            "document-expired": ("A signed document has expired.", "Issue a new one; check the device's clock."),
            "repository-swapped": (
                "The repository's first root is not the one that the hub and its devices pin.",
                "Pass the repository that the hub was made with; devices of a new repository need a new hub.",
            ),
            "tuf-expired": ("Repository metadata has expired.", "Run `edge repo refresh` where the keys are."),
            "tuf-rollback": ("Repository metadata is older than what was seen before.", "Restore the newer metadata."),
            "tuf-metadata": ("Repository metadata does not verify.", "Check the repository's keys and contents."),
            "tuf-target-missing": ("The repository lists no such target.", "Publish it with `edge repo publish`."),
            "tuf-target-mismatch": ("A target's length or hash differs from the metadata.", "Publish it again."),
            "tuf-frozen": (
                "The repository is older than the hub says it must be.",
                "Check mirrors and caches before the repository.",
            ),
            "key-passphrase": ("The private key's passphrase is missing or wrong.", "Set EDGE_KEY_PASSPHRASE."),
            "key-permissions": ("A private key is readable by others.", "chmod 600 the key file."),
            "key-invalid": ("A key file cannot be read as a key.", "Give the file that `edge repo init` wrote."),
            "key-threshold": ("Too few keys are at hand to sign this role.", "Bring the missing keys."),
            "token-invalid": ("The enrolment token is wrong, used, or expired.", "Make one: `edge fleet token`."),
            "possession": ("The proof of possession of a key does not verify.", "Enrol again with a new token."),
            "rotation-replayed": ("This rotation of keys was used before.", "Run `edge-agent rotate-keys` again."),
            "device-unknown": ("The device is not enrolled here or is revoked.", "Enrol it with a new token."),
            "ca-mismatch": ("The hub's certificate authority is not the one in the token.", "Check the hub's address."),
        },
    ),
    **_table(
        "TargetError",
        {
            "target-unknown": ("No profile of this name is known.", "`edge targets list` shows the known ones."),
            "no-fitting-variant": (
                "No variant of the release fits this device.",
                "Convert the release for this device's target and runtime.",
            ),
            "runtime-missing": ("The runtime that the bundle needs is not installed.", "Install the extra it names."),
            "recipe-unfit": (
                "None of the recipes that were asked for makes what a target runs.",
                "Add a recipe that it runs: each target takes those of the recipes that it can.",
            ),
            "runtime-too-old": ("The installed runtime is older than the bundle needs.", "Update the runtime."),
            "architecture": ("The bundle is for another processor architecture.", "Convert for this architecture."),
            "accelerator-missing": ("The accelerator that the bundle needs is not here.", "Convert for the CPU."),
            "memory-too-small": ("The device has less memory than the bundle needs.", "Use a smaller model."),
            "fallback-share": (
                "More of the model would run beside the accelerator than is allowed.",
                "`edge lint` names each operator and its rewrite; or allow more with --fail-on-fallback.",
            ),
            "opset-ceiling": (
                "The ONNX model is newer than the oldest runtime of the target reads.",
                "Export it again with the opset that the message names.",
            ),
        },
    ),
    **_table(
        "DeploymentError",
        {
            "disk-full": ("There is not enough disk space.", "Free space, or raise the store's budget."),
            "disk-error": ("The disk reported an error.", "Check the disk; the step is tried again."),
            "store-corrupt": ("The store on this device cannot be read.", "Run `edge-agent status`; redeploy."),
            "generation-missing": ("A generation that a slot names is not in the store.", "Deploy it again."),
            "generation-quarantined": (
                "This generation failed here before.",
                "Publish a fixed release, or allow it with retry_quarantined.",
            ),
            "testing-crashed": ("The model crashed its runtime while it was tested.", "Fix the model or the target."),
            "testing-timeout": (
                "Testing took longer than its limit.",
                "Use a smaller model or a smaller golden set, or raise `testing_seconds` in the trial policy.",
            ),
            "worker-failed": ("A child process of the agent failed.", "See the agent's log; it is tried again."),
            "download-budget": (
                "The bytes that this device may download in a day are used up.",
                "Nothing: it goes on tomorrow, where it stopped; or raise download.bytes_per_day in agent.toml.",
            ),
            "maintenance-window": (
                "No maintenance window of this device is open.",
                "Nothing: it begins when one opens; or change maintenance.windows in agent.toml.",
            ),
            "too-hot": ("The device is hotter than an update may begin.", "Cool it; it is tried again."),
            "memory-low": ("Too little memory is free to begin.", "Stop what uses it, or use a smaller model."),
            "trial-evidence": ("Live evidence went against the release.", "Fix the model; it is quarantined here."),
            "superseded": ("A newer desired document ended this deployment.", "Nothing: the newer one is under way."),
            "runtime-conflict": (
                "An installed runtime cannot work in this process.",
                "Run tflite-runtime apart from TensorFlow and with numpy older than 2, or use ai-edge-litert.",
            ),
            "agent-running": ("Another agent uses this state folder.", "Stop it first."),
            "command-unsupported": (
                "This version of the agent cannot carry the command out.",
                "Update the agent, or do without.",
            ),
            "command-refused": (
                "A device refused a command for a reason that this version of edgesdk does not know.",
                "Read its words in the message, or update edgesdk here.",
            ),
            "hub-running": ("Another hub uses this folder.", "Stop it first; its process id is in run.json."),
            "not-enrolled": ("This device is not enrolled.", "Run `edge-agent enroll TOKEN`."),
        },
    ),
    **_table(
        "LinkError",
        {
            "link-offline": ("There is no connection to the broker.", "Check host, port and network; it is retried."),
            "link-refused": ("The broker refused the connection.", "Check certificate, user name and client id."),
            "link-denied": ("The broker denied a publish or subscription.", "Check the broker's access rules."),
            "link-tls": ("The TLS handshake failed.", "Check the CA, the certificate and the host name."),
            "link-busy": ("Too many publishes wait for the broker already.", "Wait for acknowledgements first."),
            "link-waiting": (
                "A callback of the link waited for the link, which would wait for ever.",
                "Hand the work to another thread, or use the handle's callback.",
            ),
            "broker-failed": ("The MQTT broker did not start or ended early.", "Read its words in the message."),
            "http-failed": ("An HTTP request failed.", "Check the address and the server; it is retried."),
            "http-slow": ("A server sends too slowly.", "Check the network and the server; it is retried."),
            "http-status": ("A server answered with an unexpected status.", "Check the address and the server's log."),
            "download-cut": ("A download ended early.", "Nothing: it is resumed."),
            "download-length": ("A server sent more bytes than announced.", "Check the repository and its proxies."),
            "message-invalid": ("A message does not follow its schema.", "Check the sender's version."),
            "message-too-large": ("A message exceeds its size limit.", "Send less."),
            "device-offline": (
                "The device is not connected, so that it cannot be asked for anything now.",
                "Wait for it, see `edge fleet devices`; what it is to run reaches it when it comes back.",
            ),
            "command-busy": ("Too many commands wait for their answer already.", "Wait for these answers first."),
            "command-unanswered": (
                "A device did not answer a command in time: it is slow, cut off, or refused to believe the command.",
                "Give it a longer --timeout, ask for fewer lines, and read its log (`edge-agent status` there).",
            ),
            "hub-unreachable": ("The hub does not answer.", "Start it with `edge hub start`, or set EDGE_HUB."),
            "hub-refused": ("The hub refused the request.", "Read the message; check the token's role."),
        },
    ),
    **_table(
        "ConfigError",
        {
            "config-invalid": ("A configuration file does not follow its schema.", "Correct the named key."),
            "config-unknown-key": ("A configuration file has a key that is not known.", "Correct its spelling."),
            "file-missing": ("A file that was named does not exist.", "Check the path."),
            "file-exists": ("A file or folder that would be written exists.", "Choose another, or remove it."),
            "folder-unwritable": (
                "A file or folder cannot be read or written.",
                "Check its owner, its mode and the disk; the message names it.",
            ),
            "interrupted": (
                "A conversion or a training was interrupted (Ctrl-C; exit 130).",
                "Give the same command again: it goes on where it stopped.",
            ),
            "argument-invalid": ("A command-line argument is not usable.", "See the command's --help."),
            "dependency-missing": ("A program or package that this needs is not installed.", "Install it."),
            "environment-failed": (
                "The environment of a vendor's tool could not be made.",
                "Read the installer's words; check the network and the package index, then try again.",
            ),
            "insecure-bind": (
                "A server would listen beyond this machine without protection.",
                "Bind to 127.0.0.1, or configure TLS and tokens.",
            ),
            "port-in-use": ("A server cannot listen on this address.", "Stop what listens there, or choose a port."),
            "rollout-conflict": (
                "The rollout, or another one of this model, is not in a state that allows this.",
                "See `edge fleet status`; halt or roll back the other one first.",
            ),
            "rollout-unknown": ("No rollout of this id is known.", "See `edge fleet status`."),
            "data-invalid": ("A data file cannot be used.", "Correct the data; the message says where."),
            "data-overlap": ("Calibration and evaluation data overlap.", "Keep the two sets apart."),
            "compression-running": (
                "Another process does this very training.",
                "Wait for it; the same command is instant then.",
            ),
            "calibration-not-finite": ("Calibration data holds NaN or infinity.", "Remove or repair these rows."),
            "calibration-range": (
                "Calibration values are not of the size that the contract or the evaluation data has.",
                "Prepare both sets as the app does: the same units and scaling.",
            ),
            "calibration-constant": ("Calibration data, a channel or whole rows never vary.", "Give real recordings."),
            "calibration-repeated": ("Many calibration rows are repeated.", "Give different recordings."),
            "calibration-few": ("Too few different calibration rows.", "Give as many as the message names."),
            "calibration-one-class": (
                "Calibration data is of one class, or lacks a common one.",
                "Take rows of every class.",
            ),
            "calibration-leak": ("Labels are among the inputs.", "Take the label out of the inputs, in training too."),
            "calibration-overlap": ("Calibration rows are in the evaluation data.", "Keep the two sets apart."),
            "calibration-double-normalised": (
                "Calibration data was normalised before; the runtime does it again.",
                "Give data in the app's units.",
            ),
            "calibration-not-normalised": (
                "Calibration data was not prepared as the contract or the evaluation data is.",
                "Prepare it as the app prepares its inputs.",
            ),
            "calibration-noise": ("Calibration data looks like random numbers.", "Give real recordings."),
            "calibration-layout": (
                "Axes of the calibration data are in another order than the contract says.",
                "Transpose the data; a reshape does not move values.",
            ),
            "calibration-colour": ("Colour channels are in reverse order.", "Reverse them: OpenCV reads BGR."),
            "model-format": ("The file is no model of a known format.", "Give a .keras, float .tflite or .onnx file."),
            "contract-mismatch": ("The model's tensors do not fit the contract.", "Correct the contract or the model."),
            "accuracy-thin": ("There are too few labelled samples to judge.", "Bring about as many as it names."),
        },
    ),
}
