"""Every action by its name. A new verb is one new file and one line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Protocol

from healer.actions.contract import Action
from healer.actions.cordon import Cordon, Uncordon
from healer.actions.delete_job import DeleteJob
from healer.actions.delete_pod import DeletePod
from healer.actions.drain import Drain
from healer.actions.evict_pod import EvictPod
from healer.actions.expand_pvc import ExpandPvc
from healer.actions.http_call import HttpCall
from healer.actions.json_patch import JsonPatch
from healer.actions.notify import Notify
from healer.actions.patch_config_map import PatchConfigMap
from healer.actions.pause_rollout import PauseRollout, ResumeRollout
from healer.actions.raise_hpa_max import RaiseHpaMax
from healer.actions.resize_resources import ResizeResources
from healer.actions.restart_rollout import RestartRollout
from healer.actions.run_job import RunJob
from healer.actions.scale import Scale
from healer.actions.shift_weight import ShiftWeight
from healer.actions.silence import Silence
from healer.actions.switch_service import SwitchService
from healer.actions.undo_rollout import UndoRollout
from healer.actions.wait import Wait


class BuiltIn(Action, Protocol):
    """An action with the two sentences that docs/actions.md prints of it."""

    looked_up_by: ClassVar[str]
    undone_by: ClassVar[str]


_ALL: tuple[BuiltIn, ...] = (
    RestartRollout(),
    UndoRollout(),
    PauseRollout(),
    ResumeRollout(),
    DeletePod(),
    EvictPod(),
    Scale(),
    RaiseHpaMax(),
    ResizeResources(),
    Cordon(),
    Uncordon(),
    Drain(),
    ExpandPvc(),
    DeleteJob(),
    RunJob(),
    SwitchService(),
    ShiftWeight(),
    PatchConfigMap(),
    JsonPatch(),
    HttpCall(),
    Silence(),
    Notify(),
    Wait(),
)

#: Action by name, in the order of docs/actions.md.
ACTIONS: Mapping[str, BuiltIn] = MappingProxyType({action.name: action for action in _ALL})
