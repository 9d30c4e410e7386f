// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Marks a name that a shipped library exports; everything else has hidden visibility.
#define KERNELHUB_API __attribute__((visibility("default")))
