// SPDX-License-Identifier: Apache-2.0
// Prints, for the device that is current and one that is asked for, the device inside a
// DeviceGuard, the one after it, and how many were set.
#include <initializer_list>

#include "primitives/abi_cuda.h"

int main() {
  for (const int current : {0, 1}) {
    for (const int wanted : {0, 1}) {
      cuda_on_host::current_device = current;
      cuda_on_host::devices_set = 0;
      int inside = 0;
      {
        const kernelhub::primitives::DeviceGuard guard(wanted);
        inside = cuda_on_host::current_device;
      }
      std::printf("%d %d %d %d %d\n", current, wanted, inside, cuda_on_host::current_device,
                  cuda_on_host::devices_set);
    }
  }
}
