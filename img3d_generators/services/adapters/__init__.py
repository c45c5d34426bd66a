# SPDX-License-Identifier: Apache-2.0
"""The protocol of each service, as its documentation describes it."""
