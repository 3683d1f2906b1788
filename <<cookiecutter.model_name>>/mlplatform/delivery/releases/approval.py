"""An approval of a release to production, as the job of Jenkins hands it over, and whether it holds here.

Jenkins copies variables and parameters of a build when somebody restarts one of its stages. So an approval names the
build that it was given in, and what it is of; a release command takes it in that build and for that image only.

    APPROVED_BY         user who approved
    APPROVED_BUILD      URL and number of the build, as `this_build` has it
    APPROVED_MODEL      model version
    APPROVED_IMAGE      serving image, by digest
    STARTED_BY          users who started the build, with commas between, or in words what did
"""

import os
from collections.abc import Mapping

from mlplatform.delivery.errors import RefusedError

# Jenkins sets them in builds; the last one only if it knows its own URL. JENKINS_URL is also set for its command line.
_JENKINS = ("JENKINS_SERVER_COOKIE", "JENKINS_HOME", "BUILD_URL")
PRODUCTION = "production"


def this_build(environ: Mapping[str, str]) -> str | None:
    """URL, or name of the job where Jenkins knows no URL of its own, and number of this build; None outside Jenkins."""
    if not any(environ.get(name) for name in _JENKINS):
        return None
    return f"{environ.get('BUILD_URL') or environ.get('JOB_NAME', '')} {environ.get('BUILD_NUMBER', '')}"


def approver(environ: Mapping[str, str]) -> str | None:
    """Who approved in this build; None if nobody did, or this is no build of Jenkins."""
    build = this_build(environ)
    return environ.get("APPROVED_BY") if build and environ.get("APPROVED_BUILD") == build else None


def check(environment: str, model: str, image: str, environ: Mapping[str, str] | None = None) -> None:
    """Raise RefusedError if this is a release to production in Jenkins that was not approved in this very build.

    image: by digest. On a laptop nobody approves: the rights in the cluster decide who may release.
    """
    given = os.environ if environ is None else environ
    build = this_build(given)
    if environment != PRODUCTION or build is None:
        return
    by, starter = approver(given), given.get("STARTED_BY", "")
    if by is None:
        other = given.get("APPROVED_BUILD")
        was = f"the approval is of another build, {other}" if other else "nobody has approved it"
        raise RefusedError(f"{model} is not released to production: {was}; start a new build, and have it approved")
    approved = (given.get("APPROVED_MODEL"), given.get("APPROVED_IMAGE"))
    if approved != (model, image):
        raise RefusedError(
            f"{model} in {image} is not released to production: {by} approved {approved[0]} in {approved[1]}; "
            "start a new build, and have it approved"
        )
    # Jenkins takes ids of users for the same that differ in upper and lower case.
    if by.casefold() in starter.casefold().split(","):
        raise RefusedError(
            f"{model} is not released to production: {by} both started and approved the build; have it approved by "
            "somebody else"
        )
