"""`profile create|use|list|show|check|delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .completions import complete_profile
from .endings import Refused, say
from .local_commands import OutputOption
from .tables import OutputFormat

if TYPE_CHECKING:
    from .profile_check import Checked
    from .profiles import Profile, Profiles

ProfileArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False, autocompletion=complete_profile)]


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    brokers: Annotated[
        str | None,
        typer.Option(
            "--brokers",
            metavar="HOST:PORT,...",
            help="Where to find the cluster; some of its brokers are enough.  [default: the running local one]",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="What an option is where it is not given; may be repeated."),
    ] = None,
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="In the place of one that has this name.")] = False,
) -> None:
    """Give a cluster a name, so that commands find it without --brokers.

    \b
      lograft profile create staging --brokers broker-1:9600,broker-2:9600 --use
      lograft profile create laptop                                        the local cluster that runs
      lograft profile create audit --brokers a:9600 --set output=json --set produce.acks=quorum
    """
    from .profiles import NAME, Profile, Profiles

    if not NAME.fullmatch(name):
        raise typer.BadParameter(
            f"{name[:80]!r} is no name: up to 64 letters, digits, dots, dashes and underscores", param_hint="NAME"
        )
    profiles = Profiles.load()
    if name in profiles.by_name and not replace:
        raise Refused(f"there is a profile {name} already", "--replace puts this one in its place")
    profiles.by_name[name] = Profile(_addresses(brokers), _defaults(sets or []))
    if use:
        profiles.in_use = name
    profiles.save()
    say(f"created {name}: {', '.join(profiles.by_name[name].brokers)}")
    say(
        f"in use from now on; `lograft profile check {name}` tries it"
        if use
        else f"`lograft profile use {name}` uses it"
    )


def use(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", show_default=False, autocompletion=complete_profile)
    ] = None,
    none: Annotated[
        bool, typer.Option("--none", help="Use no profile: the running local cluster is found again.")
    ] = False,
) -> None:
    """Use a profile from now on, in every terminal. `lograft --profile NAME` and LOGRAFT_PROFILE choose one for less.

    \b
      lograft profile use staging
      lograft profile use --none
    """
    from .profiles import Profiles

    if none == (name is not None):
        raise typer.BadParameter("name a profile, or say --none", param_hint="NAME")
    profiles = Profiles.load()
    if name is not None:
        profiles.named(name)
    profiles.in_use = name
    profiles.save()
    say(f"using {name}" if name is not None else "using no profile")


def list_profiles(output: OutputOption = OutputFormat.text) -> None:
    """List the profiles, and which is in use.

    \b
      lograft profile list
    """
    from .profiles import Profiles
    from .tables import columns, show, show_json

    profiles = Profiles.load()
    if output is OutputFormat.json:
        show_json([_as_json(profiles, name) for name in sorted(profiles.by_name)])
        return
    rows = [
        (name, "yes" if name == profiles.in_use else "", ",".join(profile.brokers), _settings(profile))
        for name, profile in sorted(profiles.by_name.items())
    ]
    show(columns(("PROFILE", "IN USE", "BROKERS", "DEFAULTS"), rows))
    if not rows:
        say("`lograft profile create NAME --brokers HOST:PORT` makes one")


def show(name: ProfileArgument, output: OutputOption = OutputFormat.text) -> None:
    """Show one profile.

    \b
      lograft profile show staging
    """
    from . import tables
    from .profiles import Profiles

    profiles = Profiles.load()
    profile = profiles.named(name)
    if output is OutputFormat.json:
        tables.show_json(_as_json(profiles, name))
        return
    tables.show(f"{name}{'  in use' if name == profiles.in_use else ''}  (in {profiles.path})")
    for address in profile.brokers:
        tables.show(f"  broker {address}")
    for key, value in sorted(profile.defaults.items()):
        tables.show(f"  {key} = {value}")


def check(name: ProfileArgument, output: OutputOption = OutputFormat.text) -> None:
    """Try a profile: each of its addresses, and each that the brokers there tell clients to use.

    Clients begin at the profile's addresses, and go on at those that brokers advertise. Where only the first ones can
    be reached from here, nothing works and it is hard to see why: this names the address that fails.

    \b
      lograft profile check staging
    """
    import asyncio

    from .profile_check import check_addresses
    from .profiles import Profiles
    from .tables import columns, show_json
    from .tables import show as show_text

    profile = Profiles.load().named(name)
    checked: list[Checked] = asyncio.run(check_addresses(profile.brokers))
    if output is OutputFormat.json:
        show_json([one._asdict() for one in checked])
    else:
        show_text(columns(("ADDRESS", "TOLD BY", "STATE"), [(one.address, one.told_by, one.state) for one in checked]))
    failed = [one for one in checked if not one.serves]
    if not failed:
        return
    advertised = next((one for one in failed if one.told_by != "profile"), None)
    if advertised is not None:
        raise Refused(
            f"{advertised.address} {advertised.state}, and {advertised.told_by} tells clients to use it",
            "set advertise.grpc of that broker to an address that clients reach, or start it if it is down",
        )
    raise Refused(
        f"{failed[0].address} {failed[0].state}",
        "is the broker up, and reachable from here? `lograft profile create --replace` changes the addresses",
    )


def delete(name: ProfileArgument) -> None:
    """Forget a profile. The cluster is not touched.

    \b
      lograft profile delete staging
    """
    from .profiles import Profiles

    profiles = Profiles.load()
    profiles.named(name)
    del profiles.by_name[name]
    if profiles.in_use == name:
        profiles.in_use = None
        say("it was in use; no profile is now")
    profiles.save()
    say(f"deleted {name}")


def _addresses(brokers: str | None) -> tuple[str, ...]:
    from .local_cluster import client_addresses
    from .profiles import checked_address

    try:
        return tuple(dict.fromkeys(checked_address(address) for address in client_addresses(brokers)))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--brokers") from None


def _defaults(sets: list[str]) -> dict[str, str]:
    """Each checked against the commands that have such an option: a misspelt one would never be found."""
    from .contents import COMMANDS
    from .lazy_commands import leaves

    defaults = {}
    for one in sets:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{one[:80]!r} is not OPTION=VALUE", param_hint="--set")
        *words, option = key.split(".")
        meant = [
            leaf
            for path, leaf in leaves(COMMANDS)
            if (not words or path == words) and option in leaf.settable_options()
        ]
        if not meant:
            raise typer.BadParameter(
                f"no command has {key[:80]!r}: name an option (output), or one of a command (produce.acks)",
                param_hint="--set",
            )
        for leaf in meant:
            leaf.check_option(option, value)
        defaults[key] = value
    return defaults


def _settings(profile: Profile) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(profile.defaults.items()))


def _as_json(profiles: Profiles, name: str) -> dict[str, Any]:
    profile = profiles.by_name[name]
    return {
        "name": name,
        "in_use": name == profiles.in_use,
        "brokers": list(profile.brokers),
        "defaults": dict(profile.defaults),
    }
