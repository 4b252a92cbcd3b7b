from django.core.cache import cache
from django.http import JsonResponse
from django.views.decorators.http import require_http_methods

from shop.models import Order


@require_http_methods(["GET", "POST"])
def orders(request):
    if request.method == "POST":
        made = Order.objects.create(item=request.POST.get("item", "fennel"))
        cache.delete("count")
        return JsonResponse({"id": made.id, "item": made.item}, status=201)
    count = cache.get("count")
    if count is None:
        count = Order.objects.count()
        cache.set("count", count, 30)
    return JsonResponse({"count": count})


def order(request, number):
    found = Order.objects.filter(id=number).first()
    if found is None:
        return JsonResponse({"error": "no such order"}, status=404)
    return JsonResponse({"id": found.id, "item": found.item})


def fail(request):
    return JsonResponse({"error": "as asked"}, status=500)
