"""The project's addresses, which the host that builds a release knows.

All other metadata is in setup.cfg.
"""

import os

import setuptools

# Set where GitHub's or Forgejo's actions build.
server = os.environ.get("GITHUB_SERVER_URL", "")
repository = os.environ.get("GITHUB_REPOSITORY", "")
home = f"{server}/{repository}"

setuptools.setup(
  project_urls={
    "Source": home,
    "Changelog": f"{home}/blob/main/CHANGELOG.md",
    "Issues": f"{home}/issues",
  }
  if server and repository
  else {}
)
